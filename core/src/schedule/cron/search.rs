//! From civil times to instants: the next due time of a cron expression in a zone.
//!
//! A zone's time line is a row of segments of constant offset, joined by shifts. Within a segment a
//! civil time is one instant. What a gap skips and a fold repeats is decided at the joints:
//!
//! - Patterns whose hours are `*` or `*/n` run in real time: all that matches in each segment.
//! - Others name fixed local times. Those in a gap are moved by its length, to its end, or dropped
//!   ([`Gap`]); those in a fold come with the first pass, the second, or both ([`Fold`]).
//!
//! A moved time can overtake later ones (America/Montevideo 1974, America/Indiana/Winamac 2007), so a
//! segment gives the smaller of what is moved into it and what is its own.

use super::spec::Spec;
use super::{Fold, Gap};
use crate::schedule::civil::DAY;
use crate::schedule::zone::{Shift, Zone};

/// No offset, gap or fold is longer than this.
const REACH: i64 = 26 * 3600;
/// Longer than the calendar's cycle and the explicit transitions of the zone data.
const HORIZON: i64 = 500 * 366 * DAY;

/// What decides at the joints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) gap: Gap,
    pub(super) fold: Fold,
}

/// One stretch of constant offset, as far as it lies after `after`.
struct Segment {
    /// The shift that opens it, when that is near enough to matter.
    opening: Option<Shift>,
    offset: i64,
    closing: Option<Shift>,
}

/// The first due second later than `after`.
pub(super) fn next(spec: &Spec, zone: &Zone, rules: Rules, after: i64) -> Option<i64> {
    let horizon = if spec.years.is_none() { after.saturating_add(HORIZON) } else { i64::MAX };
    let mut after = after;
    'seek: loop {
        let mut shifts = zone.shifts_after(after - REACH);
        let mut segment =
            Segment { opening: None, offset: zone.offset_at(after - REACH), closing: shifts.next() };
        while let Some(shift) = segment.closing.filter(|shift| shift.at <= after) {
            segment = Segment { opening: Some(shift), offset: shift.after, closing: shifts.next() };
        }
        loop {
            let start = after + 1 + segment.offset;
            let civil = spec.next(segment.start(spec, rules, start));
            let own = civil.filter(|c| *c < segment.limit(spec, rules)).map(|c| c - segment.offset);
            let moved = segment.moved(spec, rules, after);
            if let Some(found) = own.into_iter().chain(moved).min() {
                return Some(found);
            }
            let closing = segment.closing?;
            // A fold may take the clock back to before `start`.
            if closing.at + closing.after >= start {
                let civil = civil.filter(|c| *c < horizon)?;
                // Nothing matches before that civil time: skip the segments between.
                if civil - 2 * REACH > closing.at {
                    after = civil - 2 * REACH;
                    continue 'seek;
                }
            }
            after = closing.at - 1;
            segment = Segment { opening: Some(closing), offset: closing.after, closing: shifts.next() };
        }
    }
}

impl Segment {
    /// The first civil time that is the segment's own, not before `start`.
    fn start(&self, spec: &Spec, rules: Rules, start: i64) -> i64 {
        match self.opening {
            Some(shift) if shift.is_fold() && !spec.real_time && rules.fold == Fold::First => {
                start.max(shift.at + shift.before)
            }
            _ => start,
        }
    }

    /// The first civil time that is the segment's no more.
    fn limit(&self, spec: &Spec, rules: Rules) -> i64 {
        match self.closing {
            None => i64::MAX,
            Some(shift) if shift.is_fold() && !spec.real_time && rules.fold == Fold::Second => {
                shift.at + shift.after
            }
            Some(shift) => shift.at + self.offset,
        }
    }

    /// The first instant later than `after` of those that the opening gap moved into the segment.
    fn moved(&self, spec: &Spec, rules: Rules, after: i64) -> Option<i64> {
        let gap = self.opening.filter(|shift| shift.is_gap() && !spec.real_time)?;
        let skipped = |from: i64| spec.next(from + gap.before).filter(|c| *c < gap.at + gap.after);
        let moved = match rules.gap {
            Gap::Skip => None,
            Gap::Shift => skipped(gap.at.max(after + 1)).map(|c| c - gap.before),
            Gap::After => skipped(gap.at).map(|_| gap.at).filter(|at| *at > after),
        };
        moved.filter(|at| self.closing.is_none_or(|shift| *at < shift.at))
    }
}
