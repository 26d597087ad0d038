//! Reading cron expressions, with the position of every fault.
//!
//! Two dialects, because six fields mean different things to different people ([`Dialect`]). The
//! grammar of an item, and items are joined by commas:
//!
//! ```text
//! item   = base [ "/" step ]
//! base   = "*" | value | value "-" value | "H" | "H(" value "-" value ")" | "?"
//! day    = item | "L" | "L-" n | "LW" | n "W"
//! weekday= item | value "L" | "L" value | value "#" n
//! ```
//!
//! Sources: crontab(5) of Vixie cron, the cron trigger of Quartz (`L`, `W`, `#`, `?`), Jenkins (`H`),
//! croniter 2.0 (the second dialect).

use super::Dialect;
use super::spec::{ALL_DAYS, ALL_WEEKDAYS, Days, Spec, Weekdays};
use crate::error::Fault;
use crate::schedule::jitter::{scale, stable_hash};

/// The longest expression that is read, in bytes.
pub(super) const LONGEST: usize = 1024;

/// A field of an expression: its word, its values and their names.
struct Kind {
    name: &'static str,
    min: i64,
    max: i64,
    /// Full names, of which three letters do; the first one is the value `min`.
    names: &'static [&'static str],
}

const SECOND: Kind = Kind { name: "second", min: 0, max: 59, names: &[] };
const MINUTE: Kind = Kind { name: "minute", min: 0, max: 59, names: &[] };
const HOUR: Kind = Kind { name: "hour", min: 0, max: 23, names: &[] };
const DATE: Kind = Kind { name: "day", min: 1, max: 31, names: &[] };
const MONTH: Kind = Kind { name: "month", min: 1, max: 12, names: &MONTHS };
const WEEKDAY: Kind = Kind { name: "weekday", min: 0, max: 6, names: &WEEKDAYS };
const YEAR: Kind = Kind { name: "year", min: 1970, max: 9999, names: &[] };

pub(super) const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
pub(super) const WEEKDAYS: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// A piece of the expression, and where it begins.
#[derive(Clone, Copy)]
struct Piece<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Piece<'a> {
    fn split(self, by: char) -> Option<(Piece<'a>, Piece<'a>)> {
        let (a, b) = self.text.split_once(by)?;
        Some((Piece { text: a, at: self.at }, Piece { text: b, at: self.at + a.len() + by.len_utf8() }))
    }

    fn items(self) -> impl Iterator<Item = Piece<'a>> {
        let mut at = self.at;
        self.text.split(',').map(move |text| {
            let piece = Piece { text, at };
            at += text.len() + 1;
            piece
        })
    }

    /// Without the letter it ends with, in either case.
    fn without_last(self, letter: char) -> Option<Piece<'a>> {
        let text = self.text.strip_suffix([letter, letter.to_ascii_lowercase()])?;
        Some(Piece { text, at: self.at })
    }

    /// Without the letter it begins with, in either case.
    fn without_first(self, letter: char) -> Option<Piece<'a>> {
        let text = self.text.strip_prefix([letter, letter.to_ascii_lowercase()])?;
        Some(Piece { text, at: self.at + 1 })
    }

    fn fault(self, message: impl Into<String>) -> Fault {
        Fault::new("expression", message).at(self.at)
    }
}

/// Reads an expression; `job_id` decides what `H` stands for.
pub(super) fn parse(expression: &str, dialect: Dialect, job_id: &str) -> Result<Spec, Vec<Fault>> {
    if expression.len() > LONGEST {
        return Err(vec![
            Fault::new("expression", format!("the expression is longer than {LONGEST} bytes")).at(LONGEST),
        ]);
    }
    let fields = fields(expression);
    let Some(first) = fields.first() else {
        return Err(vec![
            Fault::new("expression", "the expression is empty")
                .at(0)
                .help("write five fields, such as `0 3 * * *` for 03:00 every day"),
        ]);
    };
    if first.text.starts_with('@') {
        let plain = nickname(*first, fields.len()).map_err(|fault| vec![fault])?;
        return parse(plain, Dialect::Standard, job_id);
    }
    let ordered = in_order(&fields, dialect).map_err(|fault| vec![fault])?;
    Reader { dialect, job_id, faults: Vec::new() }.read(ordered)
}

fn fields(expression: &str) -> Vec<Piece<'_>> {
    let start = expression.as_ptr() as usize;
    expression.split_whitespace().map(|text| Piece { text, at: text.as_ptr() as usize - start }).collect()
}

fn nickname(first: Piece<'_>, n_fields: usize) -> Result<&'static str, Fault> {
    let name = first.text.to_ascii_lowercase();
    if name == "@reboot" {
        return Err(first
            .fault("`@reboot` is not a time")
            .help("run the job when your program starts, or trigger it by hand"));
    }
    if name == "@every" {
        return Err(first.fault("`@every` is not a cron expression").help("use an interval schedule"));
    }
    match NICKNAMES.iter().find(|(known, _)| *known == name) {
        Some((_, plain)) if n_fields == 1 => Ok(plain),
        Some(_) => Err(first.fault(format!("`{name}` stands alone")).help("remove the other fields")),
        None => Err(first
            .fault(format!("there is no nickname `{}`", short(first.text)))
            .help("use @hourly, @daily, @midnight, @weekly, @monthly, @yearly or @annually")),
    }
}

/// The fields in the order second, minute, hour, day, month, weekday, year.
fn in_order<'a>(fields: &[Piece<'a>], dialect: Dialect) -> Result<[Option<Piece<'a>>; 7], Fault> {
    let some = |i: usize| fields.get(i).copied();
    match (fields.len(), dialect) {
        (5, _) => Ok([None, some(0), some(1), some(2), some(3), some(4), None]),
        (6, Dialect::Croniter) => Ok([some(5), some(0), some(1), some(2), some(3), some(4), None]),
        (6 | 7, Dialect::Standard) => Ok([some(0), some(1), some(2), some(3), some(4), some(5), some(6)]),
        (n, _) => {
            let (extra, help) = match dialect {
                Dialect::Standard => {
                    (7, "write minute hour day month weekday; with six fields, seconds come first")
                }
                Dialect::Croniter => {
                    (6, "write minute hour day month weekday; with six fields, seconds come last")
                }
            };
            let at = fields.get(extra).or(fields.last()).map_or(0, |piece| piece.at);
            Err(Fault::new("expression", format!("{n} field{} can't be read", if n == 1 { "" } else { "s" }))
                .at(at)
                .help(help))
        }
    }
}

/// Cut for messages.
fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

struct Reader<'a> {
    dialect: Dialect,
    job_id: &'a str,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn read(mut self, fields: [Option<Piece<'_>>; 7]) -> Result<Spec, Vec<Fault>> {
        let [second, minute, hour, day, month, weekday, year] = fields;
        let spec = Spec {
            seconds: second.map_or(1, |piece| self.set(&SECOND, piece)),
            minutes: minute.map_or(0, |piece| self.set(&MINUTE, piece)),
            hours: hour.map_or(0, |piece| self.set(&HOUR, piece)),
            days: day.map_or_else(Days::default, |piece| self.days(piece)),
            months: month.map_or(0, |piece| self.set(&MONTH, piece)),
            weekdays: weekday.map_or_else(Weekdays::default, |piece| self.weekdays(piece)),
            years: year.and_then(|piece| self.years(piece)),
            real_time: false,
        };
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let real_time = spec.hours == 0x00ff_ffff
            || hour.is_some_and(|piece| piece.text.starts_with('*') && !piece.text.contains(','));
        Ok(Spec { real_time, ..spec })
    }

    /// Keeps a fault for later, so that all of them can be told at once.
    fn keep<T>(&mut self, result: Result<T, Fault>) -> Option<T> {
        result.map_err(|fault| self.faults.push(fault)).ok()
    }

    fn set(&mut self, kind: &Kind, field: Piece<'_>) -> u64 {
        let mut set = 0;
        for item in field.items() {
            let values = self.item(kind, item);
            set |= self.keep(values).map_or(0, as_bits);
        }
        set
    }

    fn years(&mut self, field: Piece<'_>) -> Option<Vec<i64>> {
        let mut years = Vec::new();
        for item in field.items() {
            let values = self.item(&YEAR, item);
            years.extend(self.keep(values).unwrap_or_default());
        }
        years.sort_unstable();
        years.dedup();
        (i64::try_from(years.len()) != Ok(YEAR.max - YEAR.min + 1)).then_some(years)
    }

    fn days(&mut self, field: Piece<'_>) -> Days {
        let mut days = Days::default();
        for item in field.items() {
            let read = self.day(item, &mut days);
            self.keep(read);
        }
        if days.plain == ALL_DAYS { Days { plain: ALL_DAYS, ..Days::default() } } else { days }
    }

    fn day(&self, item: Piece<'_>, days: &mut Days) -> Result<(), Fault> {
        let standard = self.dialect == Dialect::Standard;
        if item.text.eq_ignore_ascii_case("L") {
            days.from_last |= 1;
        } else if standard && item.text.eq_ignore_ascii_case("LW") {
            days.last_workday = true;
        } else if let Some(before) = item.without_first('L').and_then(|rest| rest.without_first('-'))
            && standard
        {
            let n = number(before)?;
            if n > 30 {
                return Err(before
                    .fault(format!("no month has a day {n} before its last"))
                    .help("use 0 to 30"));
            }
            days.from_last |= 1 << n;
        } else if let Some(date) = item.without_last('W').filter(|date| !date.text.is_empty()) {
            if !standard {
                return Err(item.fault("`W` is not part of this dialect").help("use the standard dialect"));
            }
            days.nearest |= 1 << self.value(&DATE, date)?;
        } else {
            days.plain |= as_bits(self.item(&DATE, item)?);
        }
        Ok(())
    }

    fn weekdays(&mut self, field: Piece<'_>) -> Weekdays {
        let mut weekdays = Weekdays::default();
        for item in field.items() {
            let read = self.weekday(item, &mut weekdays);
            self.keep(read);
        }
        if weekdays.plain == ALL_WEEKDAYS {
            Weekdays { plain: ALL_WEEKDAYS, ..Weekdays::default() }
        } else {
            weekdays
        }
    }

    fn weekday(&self, item: Piece<'_>, weekdays: &mut Weekdays) -> Result<(), Fault> {
        if item.text.eq_ignore_ascii_case("L") {
            return Err(item
                .fault("`L` alone is not a weekday")
                .help("write `5L` for the last Friday of the month, or `6` for every Saturday"));
        }
        if let Some((weekday, n)) = item.split('#') {
            let weekday = self.value(&WEEKDAY, weekday)?;
            if n.text.eq_ignore_ascii_case("L") {
                weekdays.last |= 1 << weekday;
                return Ok(());
            }
            let nth = number(n)?;
            let Some(slot) = usize::try_from(nth - 1).ok().and_then(|i| weekdays.nth.get_mut(i)) else {
                return Err(n.fault(format!("no month has a weekday number {nth}")).help("use #1 to #5"));
            };
            *slot |= 1 << weekday;
        } else if let Some(weekday) = self.last_weekday(item) {
            weekdays.last |= 1 << self.value(&WEEKDAY, weekday)?;
        } else {
            weekdays.plain |= as_bits(self.item(&WEEKDAY, item)?);
        }
        Ok(())
    }

    /// The weekday of `5L`, or of `L5` as croniter writes it.
    fn last_weekday<'a>(&self, item: Piece<'a>) -> Option<Piece<'a>> {
        match self.dialect {
            Dialect::Standard => item.without_last('L').or_else(|| item.without_first('L')),
            Dialect::Croniter => item.without_first('L'),
        }
    }

    /// The values of one item.
    fn item(&self, kind: &Kind, item: Piece<'_>) -> Result<Vec<i64>, Fault> {
        let (base, step) = match item.split('/') {
            Some((base, step)) => (base, Some(step)),
            None => (item, None),
        };
        if base.text.is_empty() {
            let message =
                if item.text.is_empty() { "a value is missing" } else { "nothing stands before `/`" };
            return Err(item.fault(message).help(format!("write `*` for every {}", kind.name)));
        }
        let step = step.map(|step| self.step(kind, step)).transpose()?;
        if let Some(rest) = base.without_first('H') {
            return self.hashed(kind, base, rest, step);
        }
        let (first, last) = if base.text == "*" || base.text == "?" {
            self.check_any(kind, base)?;
            (kind.min, kind.max)
        } else if let Some((first, last)) = base.split('-') {
            self.range(kind, base, first, last)?
        } else {
            let value = self.value(kind, base)?;
            (value, if step.is_some() { kind.max } else { value })
        };
        let step = step.unwrap_or(1);
        let size = kind.max - kind.min + 1;
        // A range that wraps goes on past the end.
        let last = if last < first { last + size } else { last };
        let stride = usize::try_from(step).unwrap_or(1);
        Ok((first..=last).step_by(stride).map(|v| kind.min + (v - kind.min) % size).collect())
    }

    fn check_any(&self, kind: &Kind, base: Piece<'_>) -> Result<(), Fault> {
        let day = kind.name == DATE.name || kind.name == WEEKDAY.name;
        if base.text == "*" || (day && self.dialect == Dialect::Standard) {
            return Ok(());
        }
        Err(base.fault(format!("`?` can't stand for a {}", kind.name)).help("use `*`"))
    }

    fn range(
        &self,
        kind: &Kind,
        base: Piece<'_>,
        first: Piece<'_>,
        last: Piece<'_>,
    ) -> Result<(i64, i64), Fault> {
        let (start, raw_end) = (self.value(kind, first)?, self.value(kind, last)?);
        // Sunday ends a week as well as it begins one: `5-7` is Friday to Sunday.
        let sunday_last = kind.name == WEEKDAY.name && raw_end == 0 && last.text == "7";
        let end = if sunday_last && start > 0 { 7 } else { raw_end };
        let wraps = end < start;
        if wraps && (self.dialect == Dialect::Croniter || kind.name == YEAR.name) {
            return Err(base
                .fault(format!("the range `{}` runs backwards", short(base.text)))
                .help("write it as two ranges with a comma between"));
        }
        // `0-7` is the whole week.
        Ok(if sunday_last && first.text == "0" { (0, 6) } else { (start, end) })
    }

    fn step(&self, kind: &Kind, step: Piece<'_>) -> Result<i64, Fault> {
        let n = number(step)?;
        if n == 0 {
            return Err(step.fault("a step of 0 leads nowhere").help("use 1 or more"));
        }
        if n > kind.max - kind.min {
            let help = format!("use 1 to {}, or name the {} itself", kind.max - kind.min, kind.name);
            return Err(step
                .fault(format!("a step of {n} is longer than the {} field", kind.name))
                .help(help));
        }
        Ok(n)
    }

    /// `H`, `H(0-7)`, `H/15`: a value of the job's own, the same for ever.
    fn hashed(
        &self,
        kind: &Kind,
        base: Piece<'_>,
        rest: Piece<'_>,
        step: Option<i64>,
    ) -> Result<Vec<i64>, Fault> {
        if self.dialect == Dialect::Croniter || kind.name == YEAR.name {
            return Err(base
                .fault(format!("`H` can't stand for a {} here", kind.name))
                .help("write a value"));
        }
        let (min, max) = if rest.text.is_empty() {
            // Every month has 28 days.
            (kind.min, if kind.name == DATE.name { 28 } else { kind.max })
        } else {
            let inner = rest.without_first('(').and_then(|inner| inner.without_last(')'));
            let Some((first, last)) = inner.and_then(|inner| inner.split('-')) else {
                return Err(rest.fault("`H` is followed by something unknown").help("write `H` or `H(0-7)`"));
            };
            (self.value(kind, first)?, self.value(kind, last)?)
        };
        if max < min {
            return Err(rest.fault("the range of `H` runs backwards").help("put the smaller value first"));
        }
        let hash = stable_hash(self.job_id, kind.name.as_bytes());
        let among = |n: i64| i64::try_from(scale(hash, u64::try_from(n).unwrap_or(1))).unwrap_or(0);
        let Some(step) = step else { return Ok(vec![min + among(max - min + 1)]) };
        let stride = usize::try_from(step).unwrap_or(1);
        Ok((min + among(step.min(max - min + 1))..=max).step_by(stride).collect())
    }

    /// One value: a number or a name.
    fn value(&self, kind: &Kind, piece: Piece<'_>) -> Result<i64, Fault> {
        if let Some(value) = named(kind, piece.text) {
            return Ok(value);
        }
        if piece.text.is_empty() || !piece.text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.not_a_value(kind, piece));
        }
        let value = number(piece)?;
        if kind.name == WEEKDAY.name && value == 7 {
            return Ok(0);
        }
        let (min, max) = (kind.min, if kind.name == WEEKDAY.name { 7 } else { kind.max });
        if value < min {
            return Err(piece
                .fault(format!("{} {value} is below {min}", kind.name))
                .help(format!("use {min} to {max}")));
        }
        if value > max {
            return Err(piece
                .fault(format!("{} {value} is above {max}", kind.name))
                .help(format!("use {min} to {max}")));
        }
        Ok(value)
    }

    fn not_a_value(&self, kind: &Kind, piece: Piece<'_>) -> Fault {
        if piece.text.is_empty() {
            return piece.fault(format!("a {} is missing", kind.name));
        }
        let fault = piece.fault(format!("`{}` is not a {}", short(piece.text), kind.name));
        if self.dialect == Dialect::Croniter && piece.text.starts_with(['R', 'r']) {
            return fault.help("`R` is not supported: its value would change with every read");
        }
        match kind.names.first() {
            Some(name) => {
                let max = if kind.name == WEEKDAY.name { 7 } else { kind.max };
                fault.help(format!("use {} to {max}, or a name such as `{}`", kind.min, &name[..3]))
            }
            None => fault.help(format!("use {} to {}", kind.min, kind.max)),
        }
    }
}

fn named(kind: &Kind, text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    (kind.min..)
        .zip(kind.names)
        .find(|(_, name)| **name == lower || name[..3] == *lower)
        .map(|(value, _)| value)
}

/// A plain number; years are the longest.
fn number(piece: Piece<'_>) -> Result<i64, Fault> {
    let digits = !piece.text.is_empty() && piece.text.bytes().all(|byte| byte.is_ascii_digit());
    match piece.text.parse::<i64>() {
        Ok(value) if digits && value <= 1_000_000 => Ok(value),
        _ => Err(piece.fault(format!("`{}` is not a number that fits here", short(piece.text)))),
    }
}

fn as_bits(values: Vec<i64>) -> u64 {
    values.into_iter().fold(0, |set, value| set | 1 << value)
}
