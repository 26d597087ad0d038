//! What becomes of occurrences that overlap, against a model made from the words of [`Overlap`] alone.

use proptest::prelude::*;

use super::tests::{at, minutely, overlaps, plan_with};
use super::*;
use crate::policy::Misfire;

proptest! {
    #[test]
    fn what_overlaps_does_as_a_small_model_says(
        overlap in overlaps(),
        lengths in prop::collection::vec(1_u32..5, 1..40),
    ) {
        prop_assert_eq!(played(overlap, &lengths), modelled(overlap, &lengths));
    }
}

/// What becomes of each minute's occurrence when the planner decides. The `i`th run takes so many
/// minutes; what waits starts before what is due.
fn played(overlap: Overlap, lengths: &[u32]) -> Vec<(u32, &'static str)> {
    let mut job = minutely(Misfire::RunOnce, overlap);
    let mut running: Vec<u32> = Vec::new();
    let mut queue: Vec<u32> = Vec::new();
    let (mut length, mut seen) = (lengths.iter().cycle(), Vec::new());
    for minute in 0..60 {
        running.retain(|end| *end > minute);
        while running.len() < overlap.max_running() as usize && !queue.is_empty() {
            seen.push((queue.remove(0), "starts late"));
            running.push(minute + length.next().unwrap());
        }
        let count = |n: usize| u32::try_from(n).unwrap();
        let live = Live { running: count(running.len()), queued: count(queue.len()) };
        let plan = plan_with(&job, live, at(minute), &Calendars::default());
        if plan.cancel_running {
            running.fill(minute + 1);
        }
        for record in &plan.records {
            match record.disposition {
                Disposition::Start => {
                    seen.push((minute, "starts"));
                    running.push(minute + length.next().unwrap());
                }
                Disposition::Queue => queue.push(minute),
                Disposition::Skip(..) => seen.push((minute, "skipped")),
            }
        }
        let NextDue::At(due) = plan.next else { panic!("{plan:?}") };
        job.due = Some(due);
    }
    seen
}

/// The same, from the words of [`Overlap`] alone.
fn modelled(overlap: Overlap, lengths: &[u32]) -> Vec<(u32, &'static str)> {
    let max = if let Overlap::Allow { max } = overlap { max as usize } else { 1 };
    let (mut ends, mut waiting): (Vec<u32>, Option<u32>) = (Vec::new(), None);
    let (mut n, mut seen) = (0, Vec::new());
    let mut run = |ends: &mut Vec<u32>, minute: u32| {
        ends.push(minute + lengths[n % lengths.len()]);
        n += 1;
    };
    for minute in 0..60 {
        ends.retain(|end| *end != minute);
        if ends.len() < max
            && let Some(waited) = waiting.take()
        {
            seen.push((waited, "starts late"));
            run(&mut ends, minute);
        }
        if ends.len() < max {
            seen.push((minute, "starts"));
            run(&mut ends, minute);
            continue;
        }
        if overlap == Overlap::CancelRunning {
            ends.fill(minute + 1);
        }
        let waits = matches!(overlap, Overlap::QueueOne | Overlap::CancelRunning);
        if waits && waiting.is_none() {
            waiting = Some(minute);
        } else {
            seen.push((minute, "skipped"));
        }
    }
    seen
}
