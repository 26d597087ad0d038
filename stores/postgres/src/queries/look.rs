//! A look: a claim that is expected to find nothing, as one statement and not a transaction of three.
//!
//! An idle node asks now and then, whatever it was told. When its last claim found nothing, nothing has been hinted at
//! since, and what was to be due next is still to come, the question is asked for none: it locks nothing and needs no
//! transaction. Should it find something all the same, a claim follows.

use std::sync::PoisonError;
use std::time::Instant;

use unified_scheduler_core::Timestamp;
use unified_scheduler_core::store::{ClaimBatch, ClaimOutcome};

use super::claim::Wish;
use super::pick::{Left, Picked, pick};
use crate::error::Step;
use crate::session::{Session, Shared};

/// What a claim that found nothing said of the next one.
#[derive(Debug)]
pub(crate) struct Quiet {
    handlers: Vec<String>,
    /// What the hints' counter was before.
    hints: u64,
    /// When it was, by the process and by the server.
    at: Instant,
    now: Timestamp,
    /// When something is due next.
    next_at: Option<Timestamp>,
}

/// Whether a claim is expected to find nothing.
pub(crate) fn is_expected(shared: &Shared, wish: &Wish) -> bool {
    let quiet = shared.quiet.lock().unwrap_or_else(PoisonError::into_inner);
    quiet.as_ref().is_some_and(|quiet| {
        let now = match shared.fixed_now() {
            Some(now) => Timestamp::from_millis(now),
            None => quiet.now.saturating_add(quiet.at.elapsed()),
        };
        quiet.hints == shared.hints.count()
            && quiet.handlers == wish.handlers
            && quiet.next_at.is_none_or(|next| now < next)
    })
}

/// Takes note of what a claim came to, for the next; `hints` is what the counter was before it.
pub(crate) fn remember(shared: &Shared, wish: &Wish, hints: u64, outcome: &ClaimOutcome) {
    let found_nothing = |batch: &ClaimBatch| {
        let decided = batch.claimed.len() + batch.skipped.len() + batch.queued.len();
        decided + batch.set_aside.len() + batch.ended.len() == 0 && !batch.more && !batch.blocked
    };
    let quiet = match outcome {
        ClaimOutcome::Claimed(batch) if found_nothing(batch) => Some(Quiet {
            handlers: wish.handlers.clone(),
            hints,
            at: Instant::now(),
            now: batch.now,
            next_at: batch.next_at,
        }),
        _ => None,
    };
    *shared.quiet.lock().unwrap_or_else(PoisonError::into_inner) = quiet;
}

/// What a claim would answer, where there is nothing to claim; `None` where there is something.
pub(crate) async fn look(session: &mut Session, wish: &Wish) -> Step<Option<ClaimOutcome>> {
    let Picked { now, alive, next_at, left, blocked, .. } =
        pick(session, &wish.node, &wish.handlers, 0).await?;
    if !alive {
        return Ok(Some(ClaimOutcome::Refused));
    }
    let batch = ClaimBatch { now, next_at, ..ClaimBatch::default() };
    Ok((left == Left::Nothing && !blocked).then(|| ClaimOutcome::Claimed(Box::new(batch))))
}
