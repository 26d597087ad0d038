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
use super::fields::{
    DATE, HOUR, Kind, LONGEST, MINUTE, MONTH, Piece, SECOND, WEEKDAY, YEAR, fields, in_order, nickname,
    number, short, value,
};
use super::spec::{ALL_DAYS, ALL_WEEKDAYS, Days, Spec, Weekdays};
use crate::error::Fault;
use crate::schedule::jitter::{scale, stable_hash};

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
        let open = hour.is_some_and(|piece| piece.text.starts_with('*') && !piece.text.contains(','));
        let real_time = spec.hours == 0x00ff_ffff || (open && spec.hours.count_ones() > 1);
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
            days.nearest |= 1 << value(&DATE, date)?;
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
            let weekday = value(&WEEKDAY, weekday)?;
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
            weekdays.last |= 1 << value(&WEEKDAY, weekday)?;
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
        let step = step.map(|step| self.stride(kind, step)).transpose()?;
        if let Some(rest) = base.without_first('H') {
            return self.hashed(kind, base, rest, step);
        }
        let (first, last) = if base.text == "*" || base.text == "?" {
            self.check_any(kind, base)?;
            (kind.min, kind.max)
        } else if let Some((first, last)) = base.split('-') {
            self.range(kind, base, first, last)?
        } else {
            let value = value(kind, base)?;
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
        Err(base.fault(format!("`?` can't stand for {} {}", kind.article(), kind.name)).help("use `*`"))
    }

    fn range(
        &self,
        kind: &Kind,
        base: Piece<'_>,
        first: Piece<'_>,
        last: Piece<'_>,
    ) -> Result<(i64, i64), Fault> {
        let (start, end) = (value(kind, first)?, value(kind, last)?);
        // Sunday ends a week as well as it begins one: `5-7` and `5-0` are Friday to Sunday.
        let week = kind.name == WEEKDAY.name && end == 0;
        if week && start == 0 && first.text != "7" && last.text == "7" {
            return Ok((0, 6));
        }
        let end = if week && start > 0 { 7 } else { end };
        let wraps = end < start;
        if wraps && (self.dialect == Dialect::Croniter || kind.name == YEAR.name) {
            return Err(base
                .fault(format!("the range `{}` runs backwards", short(base.text)))
                .help("write it as two ranges with a comma between"));
        }
        Ok((start, end))
    }

    /// The step of an item.
    fn stride(&self, kind: &Kind, step: Piece<'_>) -> Result<i64, Fault> {
        let n = number(step)?;
        let longest = kind.max - kind.min;
        if n == 0 {
            return Err(step.fault("a step of 0 leads nowhere").help("use 1 or more"));
        }
        // croniter reads such a step as the first value alone, and stored documents may rely on it.
        if n > longest && self.dialect == Dialect::Standard {
            let help = format!("use 1 to {longest}, or name the {} itself", kind.name);
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
                .fault(format!("`H` can't stand for {} {} here", kind.article(), kind.name))
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
            (value(kind, first)?, value(kind, last)?)
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
}

fn as_bits(values: Vec<i64>) -> u64 {
    values.into_iter().fold(0, |set, value| set | 1 << value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spec::bits;
    use super::*;

    fn standard(expression: &str) -> Result<Spec, Vec<Fault>> {
        parse(expression, Dialect::Standard, "job")
    }

    fn values(set: u64) -> Vec<i64> {
        bits(set).collect()
    }

    #[test]
    fn every_fault_has_its_position_and_says_what_is_wrong() {
        for (expression, position, message) in [
            ("", 0, "the expression is empty"),
            ("   ", 0, "the expression is empty"),
            ("0 3 * *", 6, "4 fields can't be read"),
            ("0 0 3 * * * * 9", 14, "8 fields can't be read"),
            ("61 3 * * *", 0, "minute 61 is above 59"),
            ("0 25 * * *", 2, "hour 25 is above 23"),
            ("  0  25 * * *", 5, "hour 25 is above 23"),
            ("0 1,2,24 * * *", 6, "hour 24 is above 23"),
            ("0 0 0 * *", 4, "day 0 is below 1"),
            ("0 0 1-32 * *", 6, "day 32 is above 31"),
            ("0 0 * 13 *", 6, "month 13 is above 12"),
            ("0 0 * FOO *", 6, "`FOO` is not a month"),
            ("0 0 * * 8", 8, "weekday 8 is above 7"),
            ("0 0 * * L", 8, "`L` alone is not a weekday"),
            ("0 0 * * 5#6", 10, "no month has a weekday number 6"),
            ("*/0 * * * *", 2, "a step of 0 leads nowhere"),
            ("*/100 * * * *", 2, "a step of 100 is longer than the minute field"),
            ("/5 * * * *", 0, "nothing stands before `/`"),
            ("1,,2 * * * *", 2, "a value is missing"),
            ("5- * * * *", 2, "a minute is missing"),
            ("-5 * * * *", 0, "a minute is missing"),
            ("? * * * *", 0, "`?` can't stand for a minute"),
            ("0 0 L-31 * *", 6, "no month has a day 31 before its last"),
            ("H(5-2) * * * *", 1, "the range of `H` runs backwards"),
            ("Hx * * * *", 1, "`H` is followed by something unknown"),
            ("0 0 0 1 1 ? 1969", 12, "year 1969 is below 1970"),
            ("0 0 0 1 1 ? 2030-2027", 12, "the range `2030-2027` runs backwards"),
            ("@reboot", 0, "`@reboot` is not a time"),
            ("@fortnightly", 0, "there is no nickname `@fortnightly`"),
            ("@daily 5", 0, "`@daily` stands alone"),
            ("0 ü * * *", 2, "`ü` is not an hour"),
        ] {
            let faults = standard(expression).expect_err(expression);
            assert_eq!(
                (faults[0].position, faults[0].message.as_str()),
                (Some(position), message),
                "{expression}"
            );
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults = standard("60 24 32 13 8").unwrap_err();
        assert_eq!(faults.iter().map(|f| f.position.unwrap()).collect::<Vec<_>>(), [0, 3, 6, 9, 12]);
    }

    #[test]
    fn the_two_dialects_put_seconds_at_different_ends() {
        let first = standard("15 0 3 * * *").unwrap();
        let last = parse("0 3 * * * 15", Dialect::Croniter, "job").unwrap();
        assert_eq!(first, last);
        assert_eq!(
            (values(first.seconds), values(first.minutes), values(first.hours)),
            (vec![15], vec![0], vec![3])
        );
    }

    #[test]
    fn what_croniter_refuses_is_refused_in_its_dialect() {
        for expression in [
            "0 22-2 * * *",
            "0 0 ? * 1",
            "0 0 15W * *",
            "0 0 LW * *",
            "0 0 L-3 * *",
            "H * * * *",
            "R * * * *",
            "0 0 * * 5L",
            "0 0 * * FRI-MON",
            "0 0 3 * * * 2027",
            "@reboot",
        ] {
            assert!(parse(expression, Dialect::Croniter, "job").is_err(), "{expression}");
        }
    }

    #[test]
    fn ranges_wrap_and_sunday_has_two_numbers() {
        assert_eq!(values(standard("0 22-2 * * *").unwrap().hours), [0, 1, 2, 22, 23]);
        assert_eq!(values(standard("0 22-4/2 * * *").unwrap().hours), [0, 2, 4, 22]);
        assert_eq!(values(standard("0 0 * NOV-FEB *").unwrap().months), [1, 2, 11, 12]);
        for (text, days) in [
            ("FRI-MON", vec![0, 1, 5, 6]),
            ("friday-monday", vec![0, 1, 5, 6]),
            ("5-7", vec![0, 5, 6]),
            ("SAT-SUN", vec![0, 6]),
            ("7", vec![0]),
            ("0-7", vec![0, 1, 2, 3, 4, 5, 6]),
            ("7-2", vec![0, 1, 2]),
            ("1-7", vec![0, 1, 2, 3, 4, 5, 6]),
            ("7-7", vec![0]),
        ] {
            let spec = standard(&format!("0 0 * * {text}")).unwrap();
            assert_eq!(values(spec.weekdays.plain), days, "{text}");
        }
    }

    #[test]
    fn a_hash_is_stable_inside_its_range_and_spread_over_jobs() {
        let minute = |job: &str| values(parse("H H(0-7) H * *", Dialect::Standard, job).unwrap().minutes)[0];
        assert_eq!((minute("job"), minute("backup")), (minute("job"), minute("backup")));
        let different: std::collections::BTreeSet<i64> =
            (0..100).map(|i| minute(&format!("job-{i}"))).collect();
        assert!(different.len() > 30);
        for i in 0..200 {
            let spec = parse("H/15 H(0-7) H * *", Dialect::Standard, &format!("job-{i}")).unwrap();
            let minutes = values(spec.minutes);
            assert!(minutes.len() == 4 && minutes[0] < 15 && minutes[3] == minutes[0] + 45);
            assert!(values(spec.hours)[0] <= 7 && values(spec.days.plain)[0] <= 28);
        }
    }

    #[test]
    fn only_open_hours_run_in_real_time() {
        for (expression, real_time) in [
            ("0 * * * *", true),
            ("0 */2 * * *", true),
            ("0 0-23 * * *", true),
            ("0 2 * * *", false),
            ("0 1,2 * * *", false),
            ("0 0/2 * * *", false),
            ("0 H * * *", false),
        ] {
            assert_eq!(standard(expression).unwrap().real_time, real_time, "{expression}");
        }
    }

    #[test]
    fn an_endless_expression_is_refused_unread() {
        assert!(standard(&"1,".repeat(1 << 20)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = standard(&text);
            let _ = parse(&text, Dialect::Croniter, &text);
        }

        #[test]
        fn no_text_of_cron_letters_panics(text in "[0-9*/,?LWHRlwh#() @a-z\\-]{0,30}") {
            for dialect in [Dialect::Standard, Dialect::Croniter] {
                if let Ok(spec) = parse(&text, dialect, "job") {
                    let _ = spec.next(0);
                }
                let _ = parse(&format!("{text} * {text} * {text}"), dialect, "job");
            }
        }
    }
}
