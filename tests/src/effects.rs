//! Handlers, and what they really did: a log that no store sees.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use unified_scheduler_core::{Context, ExecutionId, Handler, HandlerError, Outcome, Status, Timestamp};

use crate::random::Random;
use crate::world::Process;

/// One start of a handler.
#[derive(Debug, Clone)]
pub struct Start {
    /// By the store's clock, when it really started.
    pub at: Timestamp,
    /// In which slot the process was.
    pub slot: usize,
    /// The fence that it was given.
    pub fence: (i64, u32),
    /// By the store's clock, when it ended, if it did.
    pub ended_at: Option<Timestamp>,
}

/// All starts of handlers.
pub type Effects = BTreeMap<ExecutionId, Start>;

/// The handler of every job, in one process.
#[derive(Clone)]
pub struct Work {
    process: Arc<Process>,
}

impl Work {
    /// The handler in `process`.
    pub fn new(process: Arc<Process>) -> Self {
        Self { process }
    }
}

/// What a handler is going to do.
struct Behavior {
    takes: Duration,
    heeds: bool,
    talks: bool,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Well,
    InPart,
    Skipped,
    Badly,
    Again(u64),
    Panic,
}

impl Behavior {
    fn draw(random: &mut Random) -> Self {
        let takes = match random.within(0..20) {
            0..=8 => Duration::ZERO,
            9..=15 => random.seconds(1..120),
            16..=18 => random.seconds(120..1200),
            _ => Duration::from_hours(2),
        };
        let end = match random.within(0..20) {
            13 => End::InPart,
            14 => End::Skipped,
            15..=17 => End::Badly,
            18 if random.in_thousand(300) => End::Again(random.within(1..600)),
            18 => End::Panic,
            _ => End::Well,
        };
        Self { takes, heeds: random.in_thousand(800), talks: random.in_thousand(300), end }
    }
}

#[async_trait]
impl Handler for Work {
    async fn run(&self, ctx: Context) -> Result<Outcome, HandlerError> {
        let process = &self.process;
        process.clock.awake().await;
        process.if_alive().await;
        let world = &process.world;
        world.started(process, &ctx);
        let behavior = world.draw(Behavior::draw);
        if behavior.talks {
            ctx.info("working");
            ctx.progress(1, Some(2), "");
        }
        if behavior.heeds {
            tokio::select! {
                biased;
                () = ctx.cancelled() => {
                    world.ended(&ctx);
                    return Err(HandlerError::new("was asked to stop"));
                }
                () = ctx.sleep(behavior.takes) => {}
            }
        } else {
            ctx.sleep(behavior.takes).await;
        }
        world.ended(&ctx);
        match behavior.end {
            End::Well => Ok(().into()),
            End::InPart => Ok(Outcome::partial(unified_scheduler_core::JobResult::default())),
            End::Skipped => Ok(Outcome { status: Status::Skipped, ..Outcome::from(()) }),
            End::Badly => Err(HandlerError::new("no luck")),
            End::Again(n) => Err(HandlerError::retry_after(Duration::from_secs(n), format!("again in {n}"))),
            End::Panic => std::panic::panic_any(SIMULATED),
        }
    }
}

/// What handlers panic with.
pub const SIMULATED: &str = "a simulated panic";
