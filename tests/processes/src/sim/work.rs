//! What handlers do, and the log of it that no store sees.

use std::sync::Arc;

use async_trait::async_trait;
use unified_scheduler::clock::{Clock, SystemClock};
use unified_scheduler::{Context, Handler, HandlerError, Outcome, Timestamp};
use unified_scheduler_tests::effects::Behavior;

use super::QUICKER;
use super::cluster::Cluster;
use crate::effect_log::Start;

/// One start of a handler.
#[derive(Debug, Clone)]
pub(super) struct Effect {
    pub(super) start: Start,
    /// The second half of its fence.
    pub(super) claim: u32,
    /// By the machine's clock, which is the server's.
    pub(super) at: Timestamp,
}

/// The handler of every job.
pub(super) struct Work(Arc<Cluster>);

impl Work {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self(cluster)
    }
}

#[async_trait]
impl Handler for Work {
    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        let at = SystemClock::new().now();
        self.0.note(Effect { start: Start::of(&ctx), claim: ctx.fence().1, at });
        let mut behavior = self.0.draw(Behavior::draw);
        behavior.takes /= QUICKER;
        if behavior.work(&ctx).await { behavior.end() } else { Err(HandlerError::new("was asked to stop")) }
    }
}
