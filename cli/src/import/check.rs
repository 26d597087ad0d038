//! What can be wrong with jobs of a file that could be read: everything is found before anything is stored.

use std::collections::HashMap;

use unified_scheduler::job::Definition;
use unified_scheduler::store::JobQuery;
use unified_scheduler::{Fault, Job, JobId, Registry, Store};

use super::{Candidate, Found, OnConflict};
use crate::app::App;
use crate::exit::{Failure, Problem};
use crate::output::progress::Progress;

/// What is to be done with a candidate.
pub(super) enum Action {
    Create,
    Skip(Box<Job>),
    Replace(Box<Job>),
}

impl Candidate {
    fn problem(&self, fault: Fault) -> Problem {
        Problem::new(self.line, Some(&self.new.definition.name), fault)
    }
}

/// Checks each by itself: schedule, policies, and parameters where a registry is given, which may mend them.
pub(super) fn definitions(found: &mut Found, registry: Option<&Registry>) {
    for candidate in &mut found.candidates {
        let definition = &mut candidate.new.definition;
        let mut faults = Vec::new();
        if let Some(registry) = registry
            && let Err(wrong) = registry.check(&definition.handler, &mut definition.parameters)
        {
            faults = wrong;
            for fault in faults.iter_mut().filter(|fault| fault.field == "template_type") {
                fault.help.push_str("; for handlers of other programs add --unchecked");
            }
        }
        let id = candidate.new.id.clone().unwrap_or_else(|| JobId::from("new"));
        faults.extend(Definition::new(id, candidate.new.definition.clone()).faults());
        found.problems.extend(faults.into_iter().map(|fault| candidate.problem(fault)));
    }
}

/// Finds names and ids that stand in the file twice.
pub(super) fn duplicates(found: &mut Found) {
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    let mut problems = Vec::new();
    for candidate in &found.candidates {
        let name = Some(("name", candidate.new.definition.name.as_str()));
        let id = candidate.new.id.as_ref().map(|id| ("id", id.as_str()));
        for (field, value) in name.into_iter().chain(id) {
            if let Some(first) = seen.get(&(field, value)) {
                let fault = Fault::new(field, format!("`{value}` stands on line {first} already"));
                problems.push(candidate.problem(fault));
            } else {
                seen.insert((field, value), candidate.line);
            }
        }
    }
    found.problems.extend(problems);
}

/// Decides for each candidate, in order, by what the store has.
pub(super) async fn against_store(
    app: &App,
    found: &mut Found,
    on_conflict: OnConflict,
) -> Result<Vec<Action>, Failure> {
    let store = &**app.store().await?;
    let mut progress = Progress::new("looking for jobs of the same name");
    let mut actions = Vec::with_capacity(found.candidates.len());
    for (i, candidate) in found.candidates.iter().enumerate() {
        progress.done(i as u64);
        let (by_id, by_name) = stored(store, candidate).await?;
        if let (Some(one), Some(other)) = (&by_id, &by_name)
            && one.id != other.id
        {
            let text = format!("is that of job {}, and the id that of `{}`", other.id, one.definition.name);
            found.problems.push(candidate.problem(Fault::new("name", text)));
        }
        let field = if by_id.is_some() { "id" } else { "name" };
        let action = match (by_id.or(by_name), on_conflict) {
            (None, _) => Action::Create,
            (Some(job), OnConflict::Skip) => Action::Skip(Box::new(job)),
            (Some(job), OnConflict::Replace) => Action::Replace(Box::new(job)),
            (Some(job), OnConflict::Refuse) => {
                let text = format!("is in use by the stored job `{}` ({})", job.definition.name, job.id);
                let fault = Fault::new(field, text).help("see --on-conflict skip and replace");
                found.problems.push(candidate.problem(fault));
                Action::Create
            }
        };
        actions.push(action);
    }
    warn_of_chains(store, found).await?;
    Ok(actions)
}

/// The stored jobs with the candidate's id and name.
async fn stored(store: &dyn Store, candidate: &Candidate) -> Result<(Option<Job>, Option<Job>), Failure> {
    let by_id = match &candidate.new.id {
        Some(id) => store.get_job(id).await?,
        None => None,
    };
    let query =
        JobQuery { name: Some(candidate.new.definition.name.clone()), limit: 1, ..JobQuery::default() };
    Ok((by_id, store.list_jobs(&query).await?.items.pop()))
}

/// A chain to a job that is nowhere does nothing, silently.
async fn warn_of_chains(store: &dyn Store, found: &mut Found) -> Result<(), Failure> {
    for candidate in &found.candidates {
        for chain in &candidate.new.definition.chains {
            let here = found.candidates.iter().any(|other| other.new.id.as_ref() == Some(&chain.job));
            if !here && store.get_job(&chain.job).await?.is_none() {
                let text = format!("chains: there is no job `{}` to run after it", chain.job);
                found.warnings.push((candidate.line, text));
            }
        }
    }
    Ok(())
}
