//! Ends of executions, and all that follows from them.
//!
//! Most ends are plain: the row gets its end, the job its last run. Those go in one statement, which is a
//! transaction of its own. The others (retries, chains, pauses, removed rows) lock their jobs, in the order
//! of their ids, and what follows is decided here and written in one statement for each table.

use std::collections::{HashMap, HashSet};

use sqlx::Row as _;
use sqlx::postgres::PgArguments;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::execution::{Execution, LogLine, Status};
use unified_scheduler_core::id::{ExecutionId, JobId};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{AuditEntry, CompleteOutcome, Completion, FailureCount, NodeRef};
use uuid::Uuid;

use super::executions::read_many;
use super::{jobs, nodes};
use crate::error::Step;
use crate::hints::CHANNEL;
use crate::insert::NewRows;
use crate::rows::{at, int, json, key, nanos, text};
use crate::session::{Session, bind, params};

/// What an end writes, from `c`.
macro_rules! set_end {
    () => {
        "UPDATE @executions e SET status = c.status, reason = c.reason, started_at = c.started_at, \
         ended_at = c.ended_at, duration_ns = c.duration_ns, result = c.result, error = c.error "
    };
}

/// Whose ends count: what `c` names, while it runs as `c` says. `coalesce` keeps the planner from the index of what
/// is running, which it takes for nearly empty; the job, from an index in which the id comes second.
macro_rules! where_it_runs {
    () => {
        "WHERE e.id = c.id AND e.job_id = c.job_id AND coalesce(e.status = 'running', false) AND e.claim = c.claim "
    };
}

/// Ends the executions of $1 to $10, each only while its node, $11 and $12, owns it and lives; $13 and $14 what the
/// failures of their jobs are multiplied with and what is added; $15 to $20 the log lines; $21 and $22 what to tell
/// when an end may let something run that waits.
const PLAIN: &str = concat!(
    "WITH alive AS MATERIALIZED (
        SELECT FROM @nodes WHERE id = $11 AND epoch = $12 AND dead_at IS NULL
    ), ended AS (",
    set_end!(),
    "FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], \
     $8::bigint[], $9::text[], $10::text[], $13::bigint[], $14::bigint[]) \
     AS c (id, job_id, claim, status, reason, started_at, ended_at, duration_ns, result, error, factor, extra) ",
    where_it_runs!(),
    "AND e.node_id = $11 AND e.epoch = $12 AND EXISTS (SELECT FROM alive)
        RETURNING e.id, c.job_id, c.started_at, c.status, c.factor, c.extra
    ), affected AS (
        UPDATE @job_state s SET last_run_at = x.started_at, last_status = x.status, last_execution = x.id,
            failures = s.failures * x.factor + x.extra, live = array_remove(s.live, x.id)
        FROM (SELECT * FROM ended ORDER BY job_id) x WHERE s.id = x.job_id
    ), lines AS (
        INSERT INTO @logs (execution, seq, at, level, message, fields)
        SELECT l.* FROM unnest($15::uuid[], $16::bigint[], $17::bigint[], $18::text[], $19::text[], $20::text[])
            AS l (execution) WHERE (l.execution IN (SELECT id FROM ended)) IS TRUE
        ON CONFLICT DO NOTHING
    ), told AS MATERIALIZED (
        SELECT pg_notify($21, $22) WHERE EXISTS (SELECT FROM @executions WHERE status = 'pending')
            AND EXISTS (SELECT FROM ended x, LATERAL (
                SELECT FROM @executions p WHERE p.job_id = x.job_id AND p.ended_at IS NULL AND coalesce(p.status = 'pending', false) LIMIT 1) p)
    ), hint AS MATERIALIZED (
        SELECT count(*) > 0 AS given FROM told
    )
    SELECT id, (SELECT given FROM hint) FROM ended"
);

/// Ends the executions of $1 to $10, each only while the node in $11 and $12 owns it; with $13 only those of living
/// nodes. What follows from them is left to others.
const END: &str = concat!(
    set_end!(),
    "FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], \
     $8::bigint[], $9::text[], $10::text[], $11::text[], $12::bigint[]) \
     AS c (id, job_id, claim, status, reason, started_at, ended_at, duration_ns, result, error, node_id, epoch) ",
    where_it_runs!(),
    "AND e.node_id = c.node_id AND e.epoch = c.epoch AND (NOT $13 OR EXISTS (SELECT FROM @nodes n \
     WHERE n.id = c.node_id AND n.epoch = c.epoch AND n.dead_at IS NULL)) RETURNING e.id, e.cancel_requested"
);

/// An end, and who owns what it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) owner: &'a NodeRef,
    pub(crate) completion: &'a Completion,
}

/// Which ends can go in one statement: nothing follows from them but the job's last run, and each is the only one
/// of its job here.
pub(crate) fn plain(ends: &[End<'_>]) -> Vec<bool> {
    let mut of_job: HashMap<&JobId, usize> = HashMap::new();
    for end in ends {
        *of_job.entry(&end.completion.job_id).or_default() += 1;
    }
    let is_plain = |end: &End<'_>| {
        let c = end.completion;
        let pauses = matches!(c.effect.failures, FailureCount::Increment { pause_after: Some(_) });
        c.keeps_row()
            && c.retry.is_none()
            && c.chained.is_empty()
            && c.next.is_none()
            && c.effect.set_aside.is_none()
            && !pauses
            && of_job.get(&c.job_id) == Some(&1)
    };
    ends.iter().map(is_plain).collect()
}

/// $1 to $10 of a statement that ends executions.
fn bind_ends(arguments: &mut PgArguments, ends: &[End<'_>]) -> Step<()> {
    fn column<'a, T>(ends: &'a [End<'_>], value: impl Fn(&'a Completion) -> T) -> Vec<T> {
        ends.iter().map(|end| value(end.completion)).collect()
    }
    let results: Step<Vec<_>> = ends.iter().map(|end| json(end.completion.result.as_ref())).collect();
    let errors: Step<Vec<_>> = ends.iter().map(|end| json(end.completion.error.as_ref())).collect();
    let reason = |c: &Completion| c.reason.as_deref().map(|reason| text(reason).into_owned());
    bind(arguments, column(ends, |c| key(&c.execution_id)))?;
    bind(arguments, column(ends, |c| c.job_id.as_str()))?;
    bind(arguments, column(ends, |c| i64::from(c.claim)))?;
    bind(arguments, column(ends, |c| c.status.as_str()))?;
    bind(arguments, column(ends, reason))?;
    bind(arguments, column(ends, |c| c.started_at.as_millis()))?;
    bind(arguments, column(ends, |c| c.ended_at.as_millis()))?;
    bind(arguments, column(ends, |c| c.duration.map(nanos)))?;
    bind(arguments, results?)?;
    bind(arguments, errors?)
}

/// Log lines to write, column by column.
#[derive(Debug, Default)]
pub(crate) struct NewLines {
    execution: Vec<Uuid>,
    seq: Vec<i64>,
    at: Vec<i64>,
    level: Vec<&'static str>,
    message: Vec<String>,
    fields: Vec<Option<String>>,
}

impl NewLines {
    pub(crate) fn push(&mut self, execution: &ExecutionId, first: u64, lines: &[LogLine]) {
        for (seq, line) in (int(first)..).zip(lines) {
            self.execution.push(key(execution));
            self.seq.push(seq);
            self.at.push(line.timestamp.as_millis());
            self.level.push(line.level.as_str());
            self.message.push(text(&line.message).into_owned());
            self.fields.push((!line.fields.is_null()).then(|| line.fields.to_string()));
        }
    }

    fn bind_to(self, arguments: &mut PgArguments) -> Step<()> {
        bind(arguments, self.execution)?;
        bind(arguments, self.seq)?;
        bind(arguments, self.at)?;
        bind(arguments, self.level)?;
        bind(arguments, self.message)?;
        bind(arguments, self.fields)
    }

    /// Writes them; a line whose place is taken is not written again.
    pub(crate) async fn insert(self, session: &mut Session) -> Step<()> {
        const SQL: &str = "INSERT INTO @logs (execution, seq, at, level, message, fields)
            SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[])
            ON CONFLICT DO NOTHING";
        if self.seq.is_empty() {
            return Ok(());
        }
        let mut arguments = PgArguments::default();
        self.bind_to(&mut arguments)?;
        session.execute(SQL, arguments).await?;
        Ok(())
    }
}

/// Ends those of one node that are plain; answers which were ended.
pub(crate) async fn end_plain(
    session: &mut Session,
    node: &NodeRef,
    ends: &[End<'_>],
) -> Step<HashSet<ExecutionId>> {
    let mut ends = ends.to_vec();
    // The order in which everybody locks jobs.
    ends.sort_by(|a, b| a.completion.job_id.cmp(&b.completion.job_id));
    let mut lines = NewLines::default();
    let (mut factors, mut extras) = (Vec::new(), Vec::new());
    for End { completion, .. } in &ends {
        lines.push(&completion.execution_id, completion.first_line, &completion.logs);
        let (factor, extra) = match completion.effect.failures {
            FailureCount::Keep => (1_i64, 0_i64),
            FailureCount::Reset => (0, 0),
            FailureCount::Increment { .. } => (1, 1),
        };
        factors.push(factor);
        extras.push(extra);
    }
    let mut arguments = PgArguments::default();
    bind_ends(&mut arguments, &ends)?;
    bind(&mut arguments, node.id.as_str())?;
    bind(&mut arguments, node.epoch.0)?;
    bind(&mut arguments, factors)?;
    bind(&mut arguments, extras)?;
    lines.bind_to(&mut arguments)?;
    bind(&mut arguments, CHANNEL)?;
    bind(&mut arguments, session.shared.hints.payload())?;
    let rows = session.all(PLAIN, arguments).await?;
    if let Some(row) = rows.first()
        && row.try_get(1)?
    {
        // Others have been told by the statement itself.
        session.shared.hints.tell();
    }
    rows.iter().map(|row| crate::rows::execution_id(row, 0)).collect()
}

/// What follows from ends, to be written.
#[derive(Debug, Default)]
struct Aftermath {
    jobs: HashMap<JobId, Job>,
    affected: HashSet<JobId>,
    rows: NewRows,
    lines: NewLines,
    doomed: Vec<Uuid>,
    audit: Vec<AuditEntry>,
    /// Whether a job has its next occurrence by now.
    next: bool,
}

/// Ends executions with all that follows. Answers, for each that was ended, whether its job has paused itself.
pub(crate) async fn end_all(
    session: &mut Session,
    ends: &[End<'_>],
    must_live: bool,
) -> Step<HashMap<ExecutionId, bool>> {
    let now = session.now().await?;
    let mut involved: Vec<&JobId> = Vec::new();
    for End { completion, .. } in ends {
        involved.push(&completion.job_id);
        involved.extend(completion.retry.iter().chain(&completion.chained).map(|new| &new.job_id));
    }
    let mut after = Aftermath { jobs: jobs::lock(session, &involved).await?, ..Aftermath::default() };
    let mut arguments = PgArguments::default();
    bind_ends(&mut arguments, ends)?;
    bind(&mut arguments, ends.iter().map(|end| end.owner.id.as_str()).collect::<Vec<_>>())?;
    bind(&mut arguments, ends.iter().map(|end| end.owner.epoch.0).collect::<Vec<_>>())?;
    bind(&mut arguments, must_live)?;
    let mut ended: HashMap<Uuid, bool> = HashMap::new();
    for row in session.all(END, arguments).await? {
        ended.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let mut paused = HashMap::new();
    for End { completion, .. } in ends {
        if let Some(called_off) = ended.remove(&key(&completion.execution_id)) {
            paused.insert(completion.execution_id, after.follow(completion, called_off, now)?);
        }
    }
    after.write(session).await?;
    Ok(paused)
}

impl Aftermath {
    /// Takes what follows from one end; answers whether the job has paused itself.
    fn follow(&mut self, completion: &Completion, called_off: bool, now: Timestamp) -> Step<bool> {
        let Completion { execution_id: id, job_id, retry, chained, effect, next, .. } = completion;
        if completion.keeps_row() {
            self.lines.push(id, completion.first_line, &completion.logs);
        } else {
            self.doomed.push(key(id));
        }
        // When somebody called it off, and the node did not know yet, there is no next attempt.
        for new in retry.iter().filter(|_| !called_off) {
            if let Some(job) = self.jobs.get(&new.job_id) {
                self.rows.push(&new.clone().into_execution(job, now), None)?;
            }
        }
        for new in chained {
            if let Some(job) = self.jobs.get(&new.job_id).filter(|job| job.enabled) {
                self.rows.push(&new.clone().into_execution(job, now), None)?;
            }
        }
        let Some(job) = self.jobs.get_mut(job_id) else { return Ok(false) };
        self.affected.insert(job_id.clone());
        job.last_run_at = Some(completion.started_at);
        job.last_status = Some(completion.status);
        job.last_execution_id = Some(*id);
        if job.due.is_none() && job.ended.is_none() {
            job.due = *next;
            self.next |= next.is_some();
        }
        let mut paused = false;
        match effect.failures {
            FailureCount::Keep => {}
            FailureCount::Reset => job.failures_in_row = 0,
            FailureCount::Increment { pause_after } => {
                job.failures_in_row = job.failures_in_row.saturating_add(1);
                paused = job.enabled && pause_after.is_some_and(|most| job.failures_in_row >= most);
                if paused {
                    job.enabled = false;
                    (job.version, job.updated_at) = (job.version + 1, now);
                    let detail = serde_json::json!({ "execution_id": id, "failures": pause_after });
                    self.audit.push(jobs::by_scheduler(job, "paused", detail, now));
                }
            }
        }
        if let Some(reason) = &effect.set_aside
            && job.fault.as_ref() != Some(reason)
        {
            job.fault = Some(reason.clone());
            (job.version, job.updated_at) = (job.version + 1, now);
            let detail = serde_json::json!({ "reason": reason });
            self.audit.push(jobs::by_scheduler(job, "set_aside", detail, now));
        }
        Ok(paused)
    }

    async fn write(self, session: &mut Session) -> Step<()> {
        const AFFECT: &str =
            "UPDATE @job_state s SET last_run_at = c.last_run_at, last_status = c.last_status,
                last_execution = c.last_execution, failures = c.failures, enabled = c.enabled,
                version = c.version, updated_at = c.updated_at, fault = coalesce(c.fault, s.fault),
                due_at = c.due_at, fire_at = c.fire_at
            FROM unnest($1::text[], $2::bigint[], $3::text[], $4::uuid[], $5::bigint[], $6::boolean[],
                $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[])
                AS c (id, last_run_at, last_status, last_execution, failures, enabled, version, updated_at,
                    fault, due_at, fire_at)
            WHERE s.id = c.id";
        const WAITS: &str = "SELECT FROM unnest($1::text[]) AS u (id), LATERAL (
            SELECT FROM @executions p WHERE p.job_id = u.id AND p.ended_at IS NULL AND coalesce(p.status = 'pending', false) LIMIT 1) p LIMIT 1";
        fn column<T>(jobs: &[&Job], value: impl Fn(&Job) -> T) -> Vec<T> {
            jobs.iter().map(|job| value(job)).collect()
        }
        let Self { jobs: known, affected, rows, lines, doomed, audit, next } = self;
        remove(session, &doomed).await?;
        lines.insert(session).await?;
        let mut hint = rows.insert(session).await? > 0;
        let mut jobs: Vec<&Job> = affected.iter().filter_map(|id| known.get(id)).collect();
        jobs.sort_by(|a, b| a.id.cmp(&b.id));
        if jobs.is_empty() {
            session.hint |= hint;
            return Ok(());
        }
        // The fault of a job that can't be read is none of its state's: only one set here is written.
        let aside: HashSet<&JobId> =
            audit.iter().filter(|entry| entry.action == "set_aside").map(|entry| &entry.job_id).collect();
        let fault = |job: &Job| {
            job.fault.as_deref().filter(|_| aside.contains(&job.id)).map(|f| text(f).into_owned())
        };
        let params = params![
            column(&jobs, |job| job.id.as_str().to_owned()),
            column(&jobs, |job| at(job.last_run_at)),
            column(&jobs, |job| job.last_status.map(Status::as_str)),
            column(&jobs, |job| job.last_execution_id.as_ref().map(key)),
            column(&jobs, |job| i64::from(job.failures_in_row)),
            column(&jobs, |job| job.enabled),
            column(&jobs, |job| job.version),
            column(&jobs, |job| job.updated_at.as_millis()),
            column(&jobs, fault),
            column(&jobs, |job| job.due.map(|due| due.due_at.as_millis())),
            column(&jobs, |job| job.due.map(|due| due.fire_at.as_millis())),
        ];
        session.execute(AFFECT, params).await?;
        jobs::audit(session, &audit).await?;
        hint |= next;
        if !hint {
            // What waited for this end may run.
            let ids = column(&jobs, |job| job.id.as_str().to_owned());
            hint = session.first(WAITS, params![ids]).await?.is_some();
        }
        session.hint |= hint;
        Ok(())
    }
}

/// Removes executions, with their logs.
pub(crate) async fn remove(session: &mut Session, ids: &[Uuid]) -> Step<()> {
    if !ids.is_empty() {
        session.execute("DELETE FROM @logs WHERE execution = ANY ($1)", params![ids]).await?;
        session.execute("DELETE FROM @executions WHERE id = ANY ($1)", params![ids]).await?;
    }
    Ok(())
}

/// What earlier calls with these completions, whose reply was lost, have come to; refused where there was none.
pub(crate) async fn earlier(
    session: &mut Session,
    node: &NodeRef,
    completions: &[&Completion],
) -> Step<Vec<CompleteOutcome>> {
    let alive = nodes::is_alive(session, node).await?;
    let ids: Vec<Uuid> = completions.iter().map(|completion| key(&completion.execution_id)).collect();
    let known: HashMap<ExecutionId, Execution> = read_many(session, &ids).await?;
    let outcome = |completion: &&Completion| {
        let repeat = match known.get(&completion.execution_id) {
            Some(execution) => completion.is_repeat(execution, node),
            // What a live node ran can have gone only by its own completion, so this is its repeat.
            None => alive && !completion.keeps_row(),
        };
        if repeat { CompleteOutcome::Applied { paused: false } } else { CompleteOutcome::Refused }
    };
    Ok(completions.iter().map(outcome).collect())
}
