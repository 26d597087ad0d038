//! A plain English reading of an expression: `every 5 minutes`, `at 03:00 on weekdays (Europe/Berlin)`.
//!
//! It reads the sets of values, not the text, so that two ways to write the same schedule read the
//! same. A set that no phrase fits is listed; a long list is cut.

use super::fields::{MONTHS, WEEKDAYS};
use super::spec::{ALL_DAYS, ALL_WEEKDAYS, Spec, bits};

const ALL_MINUTES: u64 = (1 << 60) - 1;
const ALL_HOURS: u64 = (1 << 24) - 1;
const ALL_MONTHS: u64 = 0x1ffe;
const WORKDAYS: u64 = 0b011_1110;
const WEEKEND: u64 = 0b100_0001;
/// More single times than this are told as minutes and hours.
const MOST_TIMES: u32 = 6;
const NTH: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

/// The reading of `spec` in `zone`.
pub(super) fn describe(spec: &Spec, zone: &str) -> String {
    let mut text = time(spec);
    let day = day(spec);
    let local = spec.hours != ALL_HOURS || !day.is_empty();
    if day.is_empty() && text.starts_with("at ") && spec.hours != ALL_HOURS {
        text.push_str(" every day");
    }
    text.push_str(&day);
    if local { format!("{text} ({zone})") } else { text }
}

fn time(spec: &Spec) -> String {
    if spec.seconds == 1 {
        return minutes(spec);
    }
    if spec.minutes == ALL_MINUTES && spec.hours == ALL_HOURS {
        return cycle(spec.seconds, 60, "second")
            .unwrap_or_else(|| format!("at second {} of every minute", numbers(spec.seconds)));
    }
    if spec.seconds.is_power_of_two() {
        return format!("{}, at second {}", minutes(spec), numbers(spec.seconds));
    }
    let seconds =
        cycle(spec.seconds, 60, "second").unwrap_or_else(|| format!("at second {}", numbers(spec.seconds)));
    format!("{seconds} of the minutes {}", minutes(spec))
}

fn minutes(spec: &Spec) -> String {
    let (minutes, hours) = (spec.minutes, spec.hours);
    if hours == ALL_HOURS {
        return cycle(minutes, 60, "minute").unwrap_or_else(|| match minutes {
            1 => "every hour".to_owned(),
            _ => format!("at minute {} of every hour", numbers(minutes)),
        });
    }
    if minutes == 1 && hours.count_ones() > 2 {
        if let Some(text) = cycle(hours, 24, "hour") {
            return text;
        }
        if let Some((first, last)) = run(hours) {
            return format!("every hour from {first:02}:00 to {last:02}:00");
        }
    }
    if minutes.count_ones() * hours.count_ones() <= MOST_TIMES {
        let times: Vec<String> = bits(hours)
            .flat_map(|hour| bits(minutes).map(move |minute| format!("{hour:02}:{minute:02}")))
            .collect();
        return format!("at {}", joined(&times));
    }
    let within = match run(hours) {
        Some((first, last)) => format!("from {first:02}:00 to {last:02}:59"),
        None => format!("of hour {}", numbers(hours)),
    };
    match cycle(minutes, 60, "minute") {
        Some(text) => format!("{text} {within}"),
        None => format!("at minute {} {within}", numbers(minutes)),
    }
}

/// `every 5 minutes`, if the set goes on in equal steps past its end.
fn cycle(set: u64, size: i64, unit: &str) -> Option<String> {
    let values: Vec<i64> = bits(set).collect();
    let (first, second) = (*values.first()?, *values.get(1)?);
    let step = second - first;
    let even = size % step == 0 && bits(set).eq((first..size).step_by(usize::try_from(step).ok()?));
    if !even || first >= step {
        return None;
    }
    let every = if step == 1 { format!("every {unit}") } else { format!("every {step} {unit}s") };
    Some(if first == 0 { every } else { format!("{every} from {unit} {first}") })
}

/// First and last of a set without holes, if it has more than two.
fn run(set: u64) -> Option<(i64, i64)> {
    let (first, last) = (bits(set).next()?, bits(set).last()?);
    (last - first > 1 && i64::from(set.count_ones()) == last - first + 1).then_some((first, last))
}

fn day(spec: &Spec) -> String {
    let (dates, weekdays) = (dates(spec), weekdays(spec));
    let mut text = String::new();
    if let Some(one_day) = yearly(spec) {
        text = format!(" on {one_day}");
    } else {
        let days: Vec<String> = dates.into_iter().chain(weekdays).collect();
        if !days.is_empty() {
            text = format!(" {}", days.join(", or "));
        }
        if spec.months != ALL_MONTHS {
            text = format!("{text} in {}", names(spec.months >> 1, &MONTHS));
        }
    }
    match &spec.years {
        Some(years) if years.len() <= 6 => {
            let years: Vec<String> = years.iter().map(ToString::to_string).collect();
            format!("{text} in {}", joined(&years))
        }
        Some(years) => {
            let (first, last) = (years.first().copied().unwrap_or(0), years.last().copied().unwrap_or(0));
            format!("{text} in {} years from {first} to {last}", years.len())
        }
        None => text,
    }
}

/// `1 January`, if there is one such date.
fn yearly(spec: &Spec) -> Option<String> {
    let days = spec.days;
    let single = days.plain.is_power_of_two()
        && days.from_last == 0
        && days.nearest == 0
        && !days.last_workday
        && spec.weekdays.plain == ALL_WEEKDAYS
        && spec.months.is_power_of_two();
    single.then(|| format!("{} {}", numbers(days.plain), names(spec.months >> 1, &MONTHS)))
}

fn dates(spec: &Spec) -> Option<String> {
    let days = spec.days;
    if days.plain == ALL_DAYS {
        return None;
    }
    let mut parts = Vec::new();
    if days.plain != 0 {
        let word = if days.plain.is_power_of_two() { "day" } else { "days" };
        parts.push(format!("{word} {}", numbers(days.plain)));
    }
    parts.extend(bits(days.nearest).map(|date| format!("the weekday nearest to day {date}")));
    parts.extend(bits(days.from_last).map(|n| match n {
        0 => "the last day".to_owned(),
        1 => "the day before the last day".to_owned(),
        n => format!("the day {n} days before the last"),
    }));
    if days.last_workday {
        parts.push("the last weekday".to_owned());
    }
    Some(format!("on {} of the month", joined(&parts)))
}

fn weekdays(spec: &Spec) -> Option<String> {
    let weekdays = spec.weekdays;
    let mut parts = Vec::new();
    match weekdays.plain {
        ALL_WEEKDAYS => return None,
        0 => {}
        WORKDAYS => parts.push("weekdays".to_owned()),
        WEEKEND => parts.push("weekends".to_owned()),
        plain => parts.push(names(plain, &WEEKDAYS)),
    }
    let special = weekdays.nth.into_iter().zip(NTH).chain([(weekdays.last, "last")]);
    for (set, which) in special.filter(|(set, _)| *set != 0) {
        parts.push(format!("the {which} {} of the month", names(set, &WEEKDAYS)));
    }
    Some(format!("on {}", joined(&parts)))
}

/// Names by their number, runs shortened: `Monday to Thursday`.
fn names(set: u64, names: &[&str]) -> String {
    let name = |value: i64| {
        let word = usize::try_from(value).ok().and_then(|i| names.get(i)).copied().unwrap_or_default();
        let mut letters = word.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
    };
    match run(set) {
        Some((first, last)) => format!("{} to {}", name(first), name(last)),
        None => joined(&bits(set).map(name).collect::<Vec<_>>()),
    }
}

fn numbers(set: u64) -> String {
    match run(set) {
        Some((first, last)) => format!("{first} to {last}"),
        None => joined(&bits(set).map(|value| value.to_string()).collect::<Vec<_>>()),
    }
}

/// `a, b and c`; the middle of a long list is left out.
fn joined(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first, second, .., last] if parts.len() > 12 => format!("{first}, {second} … {last}"),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, parse::parse};
    use super::*;

    #[test]
    fn expressions_read_as_people_say_them() {
        for (expression, reading) in [
            ("* * * * *", "every minute"),
            ("*/5 * * * *", "every 5 minutes"),
            ("3-59/5 * * * *", "every 5 minutes from minute 3"),
            ("*/10 * * * * *", "every 10 seconds"),
            ("0 * * * *", "every hour"),
            ("30 * * * *", "at minute 30 of every hour"),
            ("0 */2 * * *", "every 2 hours (UTC)"),
            ("0 9-17 * * 1-5", "every hour from 09:00 to 17:00 on weekdays (UTC)"),
            ("*/15 9-17 * * MON-FRI", "every 15 minutes from 09:00 to 17:59 on weekdays (UTC)"),
            ("0 3 * * *", "at 03:00 every day (UTC)"),
            ("30 2,14 * * *", "at 02:30 and 14:30 every day (UTC)"),
            ("0 3 * * 1-5", "at 03:00 on weekdays (UTC)"),
            ("0 3 * * 0,6", "at 03:00 on weekends (UTC)"),
            ("0 3 * * TUE,FRI", "at 03:00 on Tuesday and Friday (UTC)"),
            ("0 3 1 * *", "at 03:00 on day 1 of the month (UTC)"),
            ("0 3 1,15 1-3 *", "at 03:00 on days 1 and 15 of the month in January to March (UTC)"),
            ("0 3 L * *", "at 03:00 on the last day of the month (UTC)"),
            ("0 3 LW * *", "at 03:00 on the last weekday of the month (UTC)"),
            ("0 3 15W * *", "at 03:00 on the weekday nearest to day 15 of the month (UTC)"),
            ("0 3 * * 5#2", "at 03:00 on the second Friday of the month (UTC)"),
            ("0 3 * * 5L", "at 03:00 on the last Friday of the month (UTC)"),
            ("0 0 13 * 5", "at 00:00 on day 13 of the month, or on Friday (UTC)"),
            ("@yearly", "at 00:00 on 1 January (UTC)"),
            ("30 0 3 1 1 ? 2027", "at 03:00, at second 30 on 1 January in 2027 (UTC)"),
        ] {
            let spec = parse(expression, Dialect::Standard, "job").unwrap();
            assert_eq!(describe(&spec, "UTC"), reading, "{expression}");
        }
    }
}
