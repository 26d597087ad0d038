//! What is to come: the next due times, as a person wants to see them.

use serde::{Deserialize, Serialize};

use super::civil::{DAY, date_of};
use super::compiled::CompiledSchedule;
use super::exclusion::Calendars;
use crate::time::Timestamp;

/// No offset, gap or fold is longer than this.
const REACH: i64 = 26 * 3600;

/// A due time to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The due time.
    pub due: Timestamp,
    /// The same on the wall of the schedule's zone: `2026-03-29 03:30:00 +02:00 CEST`.
    pub local: String,
    /// The exclusion that leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<String>,
    /// What a shift of the zone does to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<Dst>,
}

/// How a due time meets a shift of its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dst {
    /// The local time that the schedule names is skipped; this is what it moved to.
    Gap,
    /// The local time comes twice; this is the first.
    FoldFirst,
    /// The local time comes twice; this is the second.
    FoldSecond,
}

/// The next `n` due times not before `from`, excluded ones among them.
///
/// An interval without an anchor of its own counts from `from`: give a due time of the job.
pub fn preview(
    compiled: &CompiledSchedule,
    from: Timestamp,
    n: usize,
    calendars: &Calendars,
) -> Vec<Preview> {
    let before = Timestamp::from_millis(from.as_millis() - 1);
    std::iter::successors(compiled.next_after(before, from), |due| compiled.next_after(*due, from))
        .take(n)
        .map(|due| Preview {
            due,
            local: local(compiled, due),
            excluded: compiled.excluded(due, calendars),
            dst: dst(compiled, due),
        })
        .collect()
}

fn local(compiled: &CompiledSchedule, due: Timestamp) -> String {
    let second = due.as_millis().div_euclid(1000);
    let offset = compiled.zone().offset_at(second);
    let wall = second + offset;
    let (year, month, date) = date_of(wall.div_euclid(DAY));
    let time = wall.rem_euclid(DAY);
    let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60);
    format!(
        "{year:04}-{month:02}-{date:02} {:02}:{:02}:{:02} {sign}{:02}:{:02} {}",
        time / 3600,
        time / 60 % 60,
        time % 60,
        minutes / 60,
        minutes % 60,
        compiled.zone().abbreviation_at(second)
    )
}

fn dst(compiled: &CompiledSchedule, due: Timestamp) -> Option<Dst> {
    let second = due.as_millis().div_euclid(1000);
    let near = compiled.zone().shifts_after(second - REACH).take_while(|shift| shift.at <= second + REACH);
    for shift in near {
        let size = (shift.after - shift.before).abs();
        if shift.is_fold() && (shift.at - size..shift.at).contains(&second) {
            return Some(Dst::FoldFirst);
        }
        if shift.is_fold() && (shift.at..shift.at + size).contains(&second) {
            return Some(Dst::FoldSecond);
        }
        let past_gap = shift.is_gap() && (shift.at..shift.at + size).contains(&second);
        if past_gap && compiled.is_displaced(second + shift.after) {
            return Some(Dst::Gap);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Fold, Recurrence, Schedule};

    fn show(expression: &str, overlap: Fold, from: &str, n: usize) -> Vec<(String, Option<Dst>)> {
        let mut schedule = Schedule::cron_in(expression, "Europe/Berlin");
        if let Recurrence::Cron(cron) = &mut schedule.recurrence {
            cron.overlap = overlap;
        }
        let compiled = schedule.compile("job").unwrap();
        let rows = preview(&compiled, from.parse().unwrap(), n, &Calendars::new());
        rows.into_iter().map(|row| (row.local, row.dst)).collect()
    }

    #[test]
    fn a_preview_shows_what_a_shift_does() {
        assert_eq!(
            show("30 2,3 * * *", Fold::First, "2026-03-28T12:00:00Z", 2),
            [
                ("2026-03-29 03:30:00 +02:00 CEST".to_owned(), None),
                ("2026-03-30 02:30:00 +02:00 CEST".to_owned(), None)
            ]
        );
        assert_eq!(
            show("30 2 * * *", Fold::First, "2026-03-28T12:00:00Z", 1),
            [("2026-03-29 03:30:00 +02:00 CEST".to_owned(), Some(Dst::Gap))]
        );
        assert_eq!(
            show("30 2 * * *", Fold::Both, "2026-10-25T00:00:00Z", 3),
            [
                ("2026-10-25 02:30:00 +02:00 CEST".to_owned(), Some(Dst::FoldFirst)),
                ("2026-10-25 02:30:00 +01:00 CET".to_owned(), Some(Dst::FoldSecond)),
                ("2026-10-26 02:30:00 +01:00 CET".to_owned(), None)
            ]
        );
    }

    #[test]
    fn a_preview_begins_with_its_own_instant() {
        let compiled = Schedule::every(std::time::Duration::from_mins(1)).compile("job").unwrap();
        let from = "2026-01-01T00:00:07Z".parse().unwrap();
        let rows = preview(&compiled, from, 2, &Calendars::new());
        assert_eq!((rows[0].due, rows[1].local.as_str()), (from, "2026-01-01 00:01:07 +00:00 UTC"));
    }
}
