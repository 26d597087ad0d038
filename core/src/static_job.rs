//! Jobs registered in code: a name, a schedule, policies, and a function.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::handler::Handler;
use crate::id::JobId;
use crate::job::{JobDefinition, Origin};
use crate::policy::{Chain, ChainOn, History, Misfire, Overlap, Retry};
use crate::schedule::Schedule;
use crate::time::Timestamp;

/// A job that runs every `period`, first as soon as it is registered.
///
/// The same name registered again is the same job: with the same definition nothing changes.
pub fn every(name: impl Into<String>, period: Duration) -> JobBuilder {
    scheduled(name, Schedule::every(period))
}

/// A job that runs when a cron expression says, in UTC; see [`Schedule::cron`] for the dialect and
/// [`JobBuilder::timezone`] for another zone.
pub fn cron(name: impl Into<String>, expression: impl Into<String>) -> JobBuilder {
    scheduled(name, Schedule::cron(expression))
}

/// A job that runs once, at an instant; at once, when that has passed.
pub fn once(name: impl Into<String>, at: Timestamp) -> JobBuilder {
    scheduled(name, Schedule::once(at))
}

/// A job that runs only when somebody triggers it, or another job chains to it.
pub fn on_demand(name: impl Into<String>) -> JobBuilder {
    scheduled(name, Schedule::manual())
}

/// A job with any schedule.
pub fn scheduled(name: impl Into<String>, schedule: Schedule) -> JobBuilder {
    let name = name.into();
    let handler = JobId::of_static(&name).as_str().to_owned();
    let mut definition = JobDefinition::new(name, handler, schedule);
    definition.origin = Origin::Static;
    JobBuilder { definition }
}

/// A static job to be; [`Self::run`] gives it its function.
#[must_use = "a job without `run` does nothing"]
pub struct JobBuilder {
    definition: JobDefinition,
}

impl JobBuilder {
    /// For people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.definition.description = text.into();
        self
    }

    /// The IANA time zone of a cron schedule.
    pub fn timezone(mut self, zone: impl Into<String>) -> Self {
        self.definition.schedule = self.definition.schedule.in_timezone(zone);
        self
    }

    /// Changes the schedule: bounds, jitter, limit, exclusions.
    pub fn schedule(mut self, change: impl FnOnce(Schedule) -> Schedule) -> Self {
        self.definition.schedule = change(self.definition.schedule);
        self
    }

    /// What the handler gets.
    pub fn parameters(mut self, parameters: Map<String, Value>) -> Self {
        self.definition.parameters = parameters;
        self
    }

    /// What happens to late occurrences.
    pub fn misfire(mut self, misfire: Misfire) -> Self {
        self.definition.misfire = misfire;
        self
    }

    /// What happens to occurrences due while it runs.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.definition.overlap = overlap;
        self
    }

    /// Whether what went wrong runs again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.definition.retry = retry;
        self
    }

    /// How long one attempt may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.definition.timeout = timeout;
        self
    }

    /// Higher is claimed first; from -100 to 100.
    pub fn priority(mut self, priority: i32) -> Self {
        self.definition.priority = priority;
        self
    }

    /// After how many failures in a row it disables itself.
    pub fn pause_after_failures(mut self, n: u32) -> Self {
        self.definition.pause_after_failures = Some(n);
        self
    }

    /// What of its history is kept.
    pub fn history(mut self, history: History) -> Self {
        self.definition.history = history;
        self
    }

    /// Runs another job at an end of this one. A static job is named `static:NAME`.
    pub fn then(mut self, on: ChainOn, job: impl Into<JobId>) -> Self {
        self.definition.chains.push(Chain { on, job: job.into() });
        self
    }

    /// A tag for filters.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.definition.tags.push(tag.into());
        self
    }

    /// The function that runs: an async closure, or [`crate::handler::blocking`] with a plain one.
    pub fn run(self, handler: impl Handler) -> StaticJob {
        StaticJob { definition: self.definition, handler: Arc::new(handler) }
    }
}

/// A job registered in code.
pub struct StaticJob {
    definition: JobDefinition,
    handler: Arc<dyn Handler>,
}

impl StaticJob {
    /// A job of this definition; its origin and the name of its handler are those of a static job. For
    /// bindings, whose functions come without a type; in Rust, see [`scheduled`].
    pub fn of(mut definition: JobDefinition, handler: Arc<dyn Handler>) -> Self {
        definition.origin = Origin::Static;
        JobId::of_static(&definition.name).as_str().clone_into(&mut definition.handler);
        Self { definition, handler }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    pub(crate) fn into_parts(self) -> (JobDefinition, Arc<dyn Handler>) {
        (self.definition, self.handler)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::testing::TestScheduler;

    #[test]
    fn a_job_of_a_definition_is_a_static_one_and_may_measure_itself() {
        let definition = JobDefinition::new("job", "whatever", Schedule::every(Duration::from_secs(60)));
        let handler = |ctx: Context| async move {
            ctx.measured(Duration::from_secs(7));
            ctx.measured(Duration::from_secs(8));
        };
        let job = StaticJob::of(definition, Arc::new(handler));
        let test = TestScheduler::at("2026-01-01T00:00:00Z").with(|scheduler| scheduler.job(job));
        let executions = test.executions_of("job");
        assert_eq!(executions[0].handler, "static:job");
        assert_eq!(executions[0].duration, Some(Duration::from_secs(7)));
    }
}
