//! Queries as Python writes them.

use serde::Deserialize;
use unified_scheduler::job::Origin;
use unified_scheduler::store::{AuditQuery, ExecutionQuery, ExecutionSort, JobQuery, JobSort};
use unified_scheduler::{Error, ExecutionId, JobId, Result, Status, Timestamp, Trigger};

/// Which jobs.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JobsWanted {
    name: Option<String>,
    search: Option<String>,
    handlers: Vec<String>,
    enabled: Option<bool>,
    origin: Option<Origin>,
    tag: Option<String>,
    faulty: Option<bool>,
    sort: JobSort,
    descending: bool,
    after: Option<String>,
    offset: u64,
    limit: Option<usize>,
    count: bool,
}

impl From<JobsWanted> for JobQuery {
    fn from(wanted: JobsWanted) -> Self {
        Self {
            name: wanted.name,
            search: wanted.search,
            handlers: wanted.handlers,
            enabled: wanted.enabled,
            origin: wanted.origin,
            tag: wanted.tag,
            faulty: wanted.faulty,
            sort: wanted.sort,
            descending: wanted.descending,
            after: wanted.after.map(JobId::from),
            offset: wanted.offset,
            limit: wanted.limit.unwrap_or(50),
            count: wanted.count,
        }
    }
}

/// Which executions.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExecutionsWanted {
    job_id: Option<String>,
    statuses: Vec<Status>,
    trigger: Option<Trigger>,
    node_id: Option<String>,
    root_id: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    sort: Option<String>,
    after: Option<String>,
    offset: u64,
    limit: Option<usize>,
    count: bool,
}

impl ExecutionsWanted {
    pub(crate) fn into_query(self) -> Result<ExecutionQuery> {
        let id = |text: Option<String>| text.map(|text| execution_id(&text)).transpose();
        Ok(ExecutionQuery {
            job_id: self.job_id.map(JobId::from),
            statuses: self.statuses,
            trigger: self.trigger,
            node_id: self.node_id.map(|node| node.as_str().into()),
            root_id: id(self.root_id)?,
            since: self.since,
            until: self.until,
            sort: match self.sort.as_deref() {
                None | Some("newest") => ExecutionSort::Newest,
                Some("oldest") => ExecutionSort::Oldest,
                Some("due_at") => ExecutionSort::DueAt,
                Some(other) => {
                    let known = "newest, oldest and due_at";
                    return Err(Error::invalid(format!("no sort `{other}`; there are {known}")));
                }
            },
            after: id(self.after)?,
            offset: self.offset,
            limit: self.limit.unwrap_or(50),
            count: self.count,
        })
    }
}

/// Which entries of the audit record.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditWanted {
    job_id: Option<String>,
    since: Option<Timestamp>,
    offset: u64,
    limit: Option<usize>,
}

impl From<AuditWanted> for AuditQuery {
    fn from(wanted: AuditWanted) -> Self {
        Self {
            job_id: wanted.job_id.map(JobId::from),
            since: wanted.since,
            offset: wanted.offset,
            limit: wanted.limit.unwrap_or(100),
        }
    }
}

/// An execution's id from text.
pub(crate) fn execution_id(text: &str) -> Result<ExecutionId> {
    text.parse().map_err(|_| Error::not_found("execution", text))
}
