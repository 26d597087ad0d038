//! Executions to insert, column by column: one statement for any number of them.

use sqlx::Row as _;
use sqlx::postgres::PgArguments;
use unified_scheduler_core::execution::Execution;
use unified_scheduler_core::id::{ExecutionId, NodeId};
use uuid::Uuid;

use crate::error::Step;
use crate::rows::{at, int, json, key, nanos, text};
use crate::session::{Session, bind, params};

/// What is there already, by its id, its occurrence or its caller's key, stays as it is.
const INSERT: &str = "INSERT INTO @executions AS e (id, job_id, job_name, handler, status, reason, made_by, triggered_by, \
    due_at, covers_until, n_occurrences, next_due_at, version, attempt, retries, crashes, root_id, \
    nonce, parameters, priority, created_at, run_at, started_at, ended_at, duration_ns, node_id, epoch, \
    claim, cancel_requested, progress, result, error, idempotency_key) SELECT r.* FROM \
    unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
    $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], \
    $15::bigint[], $16::bigint[], $17::uuid[], $18::text[], $19::text[], $20::integer[], $21::bigint[], \
    $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[], $26::text[], $27::bigint[], \
    $28::bigint[], $29::boolean[], $30::text[], $31::text[], $32::text[], $33::text[]) AS r (id, job_id) \
    ON CONFLICT DO NOTHING RETURNING e.id";

/// Executions to insert.
#[derive(Debug, Default)]
pub(crate) struct NewRows {
    id: Vec<Uuid>,
    job_id: Vec<String>,
    job_name: Vec<String>,
    handler: Vec<String>,
    status: Vec<&'static str>,
    reason: Vec<Option<String>>,
    made_by: Vec<&'static str>,
    triggered_by: Vec<String>,
    due_at: Vec<i64>,
    covers_until: Vec<Option<i64>>,
    n_occurrences: Vec<i64>,
    next_due_at: Vec<Option<i64>>,
    version: Vec<i64>,
    attempt: Vec<i64>,
    retries: Vec<i64>,
    crashes: Vec<i64>,
    root_id: Vec<Option<Uuid>>,
    nonce: Vec<String>,
    parameters: Vec<Option<String>>,
    priority: Vec<i32>,
    created_at: Vec<i64>,
    run_at: Vec<i64>,
    started_at: Vec<Option<i64>>,
    ended_at: Vec<Option<i64>>,
    duration_ns: Vec<Option<i64>>,
    node_id: Vec<Option<String>>,
    epoch: Vec<i64>,
    claim: Vec<i64>,
    cancel_requested: Vec<bool>,
    progress: Vec<Option<String>>,
    result: Vec<Option<String>>,
    error: Vec<Option<String>>,
    idempotency_key: Vec<Option<String>>,
}

impl NewRows {
    /// Adds an execution, with the key that a caller may have given.
    pub(crate) fn push(&mut self, e: &Execution, idempotency_key: Option<&str>) -> Step<()> {
        self.id.push(key(&e.id));
        self.job_id.push(e.job_id.as_str().to_owned());
        self.job_name.push(text(&e.job_name).into_owned());
        self.handler.push(e.handler.clone());
        self.status.push(e.status.as_str());
        self.reason.push(e.reason.clone());
        self.made_by.push(e.trigger.as_str());
        self.triggered_by.push(text(&e.triggered_by).into_owned());
        self.due_at.push(e.due_at.as_millis());
        self.covers_until.push(at(e.covers_until));
        self.n_occurrences.push(int(e.n_occurrences));
        self.next_due_at.push(at(e.next_due_at));
        self.version.push(e.version);
        self.attempt.push(e.attempt.into());
        self.retries.push(e.retries.into());
        self.crashes.push(e.crashes.into());
        self.root_id.push((e.root_id != e.id).then(|| key(&e.root_id)));
        self.nonce.push(e.nonce.clone());
        self.parameters.push(json(e.parameters.as_ref())?);
        self.priority.push(e.priority);
        self.created_at.push(e.created_at.as_millis());
        self.run_at.push(e.run_at.as_millis());
        self.started_at.push(at(e.started_at));
        self.ended_at.push(at(e.ended_at));
        self.duration_ns.push(e.duration.map(nanos));
        self.node_id.push(e.node_id.as_ref().map(|id: &NodeId| id.as_str().to_owned()));
        self.epoch.push(e.epoch.0);
        self.claim.push(e.claim.into());
        self.cancel_requested.push(e.cancel_requested);
        self.progress.push(json(e.progress.as_ref())?);
        self.result.push(json(e.result.as_ref())?);
        self.error.push(json(e.error.as_ref())?);
        self.idempotency_key.push(idempotency_key.map(str::to_owned));
        Ok(())
    }

    /// Adds all columns, in the order of [`INSERT`].
    fn bind_to(self, arguments: &mut PgArguments) -> Step<()> {
        bind(arguments, self.id)?;
        bind(arguments, self.job_id)?;
        bind(arguments, self.job_name)?;
        bind(arguments, self.handler)?;
        bind(arguments, self.status)?;
        bind(arguments, self.reason)?;
        bind(arguments, self.made_by)?;
        bind(arguments, self.triggered_by)?;
        bind(arguments, self.due_at)?;
        bind(arguments, self.covers_until)?;
        bind(arguments, self.n_occurrences)?;
        bind(arguments, self.next_due_at)?;
        bind(arguments, self.version)?;
        bind(arguments, self.attempt)?;
        bind(arguments, self.retries)?;
        bind(arguments, self.crashes)?;
        bind(arguments, self.root_id)?;
        bind(arguments, self.nonce)?;
        bind(arguments, self.parameters)?;
        bind(arguments, self.priority)?;
        bind(arguments, self.created_at)?;
        bind(arguments, self.run_at)?;
        bind(arguments, self.started_at)?;
        bind(arguments, self.ended_at)?;
        bind(arguments, self.duration_ns)?;
        bind(arguments, self.node_id)?;
        bind(arguments, self.epoch)?;
        bind(arguments, self.claim)?;
        bind(arguments, self.cancel_requested)?;
        bind(arguments, self.progress)?;
        bind(arguments, self.result)?;
        bind(arguments, self.error)?;
        bind(arguments, self.idempotency_key)
    }

    /// Those that their jobs' overlap policies look at.
    fn live(&self) -> Vec<(String, Uuid)> {
        let is_live = |i: &usize| match self.status[*i] {
            "running" => true,
            "pending" => self.made_by[*i] == "schedule" && self.attempt[*i] == 1,
            _ => false,
        };
        (0..self.id.len()).filter(is_live).map(|i| (self.job_id[i].clone(), self.id[i])).collect()
    }

    /// Inserts them; answers how many were new.
    pub(crate) async fn insert(self, session: &mut Session) -> Step<usize> {
        Ok(self.insert_new(session).await?.len())
    }

    /// Inserts them; answers which were new.
    pub(crate) async fn insert_new(self, session: &mut Session) -> Step<Vec<ExecutionId>> {
        if self.id.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.live();
        let mut arguments = PgArguments::default();
        self.bind_to(&mut arguments)?;
        let rows = session.all(INSERT, arguments).await?;
        let new: Vec<Uuid> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        add_live(session, live.into_iter().filter(|(_, id)| new.contains(id)).collect()).await?;
        Ok(new.into_iter().map(ExecutionId::from_uuid).collect())
    }
}

/// Names what is live in the states of its jobs, in the order in which everybody locks jobs.
async fn add_live(session: &mut Session, mut live: Vec<(String, Uuid)>) -> Step<()> {
    const SQL: &str = "UPDATE @job_state s SET live = s.live || l.ids FROM (
            SELECT u.job_id, array_agg(u.id) AS ids FROM unnest($1::text[], $2::uuid[]) AS u (job_id, id)
            GROUP BY u.job_id ORDER BY u.job_id) l
        WHERE s.id = l.job_id";
    if live.is_empty() {
        return Ok(());
    }
    live.sort_unstable();
    let (jobs, ids): (Vec<String>, Vec<Uuid>) = live.into_iter().unzip();
    session.execute(SQL, params![jobs, ids]).await?;
    Ok(())
}
