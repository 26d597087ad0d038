//! Handlers, and what they really did: a log that no store sees.

use std::collections::BTreeMap;
use std::panic::{self, PanicHookInfo};
use std::sync::{Arc, Once};
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
#[derive(Debug, Clone)]
pub struct Behavior {
    /// How long it takes.
    pub takes: Duration,
    /// Whether it stops when it is asked to.
    pub heeds: bool,
    /// Whether it logs and tells its progress.
    pub talks: bool,
    end: End,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Well,
    InPart,
    Skipped,
    Badly,
    Again(u64),
    Panic,
}

impl Behavior {
    /// Draws what one run does.
    pub fn draw(random: &mut Random) -> Self {
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

    /// Works for as long as it takes; `false` when it was asked to stop, and did.
    pub async fn work(&self, ctx: &Context) -> bool {
        if self.talks {
            ctx.info("working");
            ctx.progress(1, Some(2), "");
        }
        if !self.heeds {
            ctx.sleep(self.takes).await;
            return true;
        }
        tokio::select! {
            biased;
            () = ctx.cancelled() => false,
            () = ctx.sleep(self.takes) => true,
        }
    }

    /// How it ends.
    ///
    /// # Errors
    ///
    /// When it is to end badly.
    ///
    /// # Panics
    ///
    /// When it is to panic.
    pub fn end(&self) -> Result<Outcome, HandlerError> {
        match self.end {
            End::Well => Ok(().into()),
            End::InPart => Ok(Outcome::partial(unified_scheduler_core::JobResult::default())),
            End::Skipped => Ok(Outcome { status: Status::Skipped, ..Outcome::from(()) }),
            End::Badly => Err(HandlerError::new("no luck")),
            End::Again(n) => Err(HandlerError::retry_after(Duration::from_secs(n), format!("again in {n}"))),
            End::Panic => std::panic::panic_any(SIMULATED),
        }
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
        let worked = behavior.work(&ctx).await;
        world.ended(&ctx);
        if worked { behavior.end() } else { Err(HandlerError::new("was asked to stop")) }
    }
}

/// What handlers panic with.
pub const SIMULATED: &str = "a simulated panic";

/// Handlers panic on purpose; only other panics are worth reading.
pub fn silence_handlers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if info.payload().downcast_ref::<&str>() != Some(&SIMULATED) {
                usual(info);
            }
        }));
    });
}
