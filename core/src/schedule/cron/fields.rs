//! The pieces of an expression before they mean anything: fields in order, and what each may hold.

use super::Dialect;
use crate::error::Fault;

/// The longest expression that is read, in bytes.
pub(super) const LONGEST: usize = 1024;

/// A field of an expression: its word, its values and their names.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) min: i64,
    pub(super) max: i64,
    /// Full names, of which three letters do; the first one is the value `min`.
    pub(super) names: &'static [&'static str],
}

impl Kind {
    /// `a` or `an`, as its word needs.
    pub(super) fn article(&self) -> &'static str {
        if self.name == HOUR.name { "an" } else { "a" }
    }
}

pub(super) const SECOND: Kind = Kind { name: "second", min: 0, max: 59, names: &[] };
pub(super) const MINUTE: Kind = Kind { name: "minute", min: 0, max: 59, names: &[] };
pub(super) const HOUR: Kind = Kind { name: "hour", min: 0, max: 23, names: &[] };
pub(super) const DATE: Kind = Kind { name: "day", min: 1, max: 31, names: &[] };
pub(super) const MONTH: Kind = Kind { name: "month", min: 1, max: 12, names: &MONTHS };
pub(super) const WEEKDAY: Kind = Kind { name: "weekday", min: 0, max: 6, names: &WEEKDAYS };
pub(super) const YEAR: Kind = Kind { name: "year", min: 1970, max: 9999, names: &[] };

/// Their names, January first.
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
/// Their names, Sunday first.
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
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Piece<'a> {
    pub(super) fn split(self, by: char) -> Option<(Piece<'a>, Piece<'a>)> {
        let (a, b) = self.text.split_once(by)?;
        Some((Piece { text: a, at: self.at }, Piece { text: b, at: self.at + a.len() + by.len_utf8() }))
    }

    pub(super) fn items(self) -> impl Iterator<Item = Piece<'a>> {
        let mut at = self.at;
        self.text.split(',').map(move |text| {
            let piece = Piece { text, at };
            at += text.len() + 1;
            piece
        })
    }

    /// Without the letter it ends with, in either case.
    pub(super) fn without_last(self, letter: char) -> Option<Piece<'a>> {
        let text = self.text.strip_suffix([letter, letter.to_ascii_lowercase()])?;
        Some(Piece { text, at: self.at })
    }

    /// Without the letter it begins with, in either case.
    pub(super) fn without_first(self, letter: char) -> Option<Piece<'a>> {
        let text = self.text.strip_prefix([letter, letter.to_ascii_lowercase()])?;
        Some(Piece { text, at: self.at + 1 })
    }

    pub(super) fn fault(self, message: impl Into<String>) -> Fault {
        Fault::new("expression", message).at(self.at)
    }
}

pub(super) fn fields(expression: &str) -> Vec<Piece<'_>> {
    let start = expression.as_ptr() as usize;
    expression.split_whitespace().map(|text| Piece { text, at: text.as_ptr() as usize - start }).collect()
}

pub(super) fn nickname(first: Piece<'_>, n_fields: usize) -> Result<&'static str, Fault> {
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
pub(super) fn in_order<'a>(fields: &[Piece<'a>], dialect: Dialect) -> Result<[Option<Piece<'a>>; 7], Fault> {
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
pub(super) fn short(text: &str) -> String {
    text.chars().take(32).collect()
}

/// One value: a number or a name.
pub(super) fn value(kind: &Kind, piece: Piece<'_>) -> Result<i64, Fault> {
    if let Some(value) = named(kind, piece.text) {
        return Ok(value);
    }
    if piece.text.is_empty() || !piece.text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(not_a_value(kind, piece));
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

fn not_a_value(kind: &Kind, piece: Piece<'_>) -> Fault {
    if piece.text.is_empty() {
        return piece.fault(format!("{} {} is missing", kind.article(), kind.name));
    }
    let fault = piece.fault(format!("`{}` is not {} {}", short(piece.text), kind.article(), kind.name));
    if piece.text.starts_with(['R', 'r']) {
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

fn named(kind: &Kind, text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    (kind.min..)
        .zip(kind.names)
        .find(|(_, name)| **name == lower || name[..3] == *lower)
        .map(|(value, _)| value)
}

/// A plain number; years are the longest.
pub(super) fn number(piece: Piece<'_>) -> Result<i64, Fault> {
    let digits = !piece.text.is_empty() && piece.text.bytes().all(|byte| byte.is_ascii_digit());
    match piece.text.parse::<i64>() {
        Ok(value) if digits && value <= 1_000_000 => Ok(value),
        _ => Err(piece.fault(format!("`{}` is not a number that fits here", short(piece.text)))),
    }
}
