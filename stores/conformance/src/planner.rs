//! Planners that decide otherwise than the engine's.

use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::job::Job;
use unified_scheduler_core::plan::EnginePlanner;
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::store::{Completion, Live, NextDue, Plan, Planner};
use unified_scheduler_core::time::Timestamp;

/// The engine's planner, but for what `change` does to each plan.
pub(crate) struct Changed<F> {
    pub(crate) engine: EnginePlanner,
    pub(crate) change: F,
}

impl<F: Fn(&Job, Live, &Calendars, &mut Plan) + Send + Sync> Planner for Changed<F> {
    fn plan(&self, job: &Job, live: Live, now: Timestamp, calendars: &Calendars) -> Plan {
        let mut plan = self.engine.plan(job, live, now, calendars);
        (self.change)(job, live, calendars, &mut plan);
        plan
    }

    fn lost(&self, job: Option<&Job>, execution: &Execution, now: Timestamp) -> Completion {
        self.engine.lost(job, execution, now)
    }
}

/// Sets aside every job of this name, as if its definition could not be read.
pub(crate) fn set_aside(engine: &EnginePlanner, name: &'static str) -> impl Planner + use<> {
    let change = move |job: &Job, _: Live, _: &Calendars, plan: &mut Plan| {
        if job.definition.name == name {
            plan.records.clear();
            plan.next = NextDue::SetAside("schedule: can't be read".to_owned());
        }
    };
    Changed { engine: engine.clone(), change }
}
