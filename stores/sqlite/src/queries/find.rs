//! Lists of jobs and executions: filters, order, pages.

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};
use unified_scheduler_core::Error;
use unified_scheduler_core::execution::{Execution, Status};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{ExecutionQuery, ExecutionSort, JobQuery, JobSort, Page};

use crate::error::Step;
use crate::rows::{
    JobState, N_STATE_COLUMNS, count, execution, execution_columns, int, job_columns, key, known_job, size,
    state_columns,
};
use crate::session::{Session, readable};

/// The conditions of a query, with their values.
#[derive(Default)]
struct Filter {
    sql: String,
    values: Vec<Value>,
}

impl Filter {
    /// Adds a condition; each `?` in it is one of `values`.
    fn and<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        self.sql.push_str(if self.sql.is_empty() { " WHERE " } else { " AND " });
        self.sql.push_str(condition);
        self.values.extend(values);
    }
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

/// How many rows there are in all.
fn total(session: &Session, from: &str, filter: &Filter) -> Step<u64> {
    let sql = session.text(&format!("SELECT count(*) FROM {from}{}", filter.sql));
    let mut statement = session.conn.prepare_cached(&sql)?;
    Ok(count(statement.query_row(params_from_iter(&filter.values), |row| row.get(0))?))
}

/// How many rows more than wanted a page looks at, should some be unreadable.
const SPARE: usize = 100;

/// One page of rows.
fn items<T>(
    session: &Session,
    (columns, from): (&str, &str),
    filter: Filter,
    order: &str,
    (offset, limit): (u64, usize),
    read: impl Fn(&Row<'_>) -> Step<T>,
) -> Step<Vec<T>> {
    let Filter { sql, mut values } = filter;
    let sql = session.text(&format!("SELECT {columns} FROM {from}{sql} ORDER BY {order} LIMIT ? OFFSET ?"));
    // Rows are read as they are asked for: some that can't be read make no page shorter.
    let most = if limit == 0 { 0 } else { limit.saturating_add(SPARE) };
    values.extend([Value::Integer(size(most)), Value::Integer(int(offset))]);
    let mut statement = session.conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(&values))?;
    let mut items = Vec::new();
    while items.len() < limit
        && let Some(row) = rows.next()?
    {
        items.extend(readable(read(row))?);
    }
    Ok(items)
}

pub(crate) fn jobs(session: &Session, query: &JobQuery) -> Step<Page<Job>> {
    const COLUMNS: &str = concat!(state_columns!(), ", ", job_columns!());
    let mut filter = Filter::default();
    if let Some(name) = &query.name {
        filter.and("j.name = ?", [text(name)]);
    }
    if let Some(part) = &query.search {
        let part = part.to_lowercase();
        let condition = "(folded_contains(j.name, ?) OR folded_contains(j.description, ?))";
        filter.and(condition, [text(part.clone()), text(part)]);
    }
    if !query.handlers.is_empty() {
        let list = serde_json::to_string(&query.handlers)?;
        filter.and("s.handler IN (SELECT value FROM json_each(?))", [text(list)]);
    }
    if let Some(enabled) = query.enabled {
        filter.and("s.enabled = ?", [Value::Integer(enabled.into())]);
    }
    if let Some(origin) = query.origin {
        filter.and("j.origin = ?", [text(origin.as_str())]);
    }
    if let Some(tag) = &query.tag {
        filter.and("EXISTS (SELECT 1 FROM json_each(j.tags) WHERE value = ?)", [text(tag)]);
    }
    match query.faulty {
        Some(true) => filter.and("s.fault IS NOT NULL", []),
        Some(false) => filter.and("s.fault IS NULL", []),
        None => {}
    }
    query.check()?;
    let direction = if query.descending { "DESC" } else { "ASC" };
    let order = match query.sort {
        JobSort::Name => format!("j.name {direction}, j.id"),
        JobSort::CreatedAt => format!("j.created_at {direction}, j.id"),
        JobSort::DueAt => format!("s.due_at IS NULL, s.due_at {direction}, j.id"),
        JobSort::Id => format!("j.id {direction}"),
        JobSort::LastRunAt => format!("s.last_run_at IS NULL, s.last_run_at {direction}, j.id"),
    };
    let from = "@jobs j JOIN @job_state s USING (n)";
    let total = if query.count { Some(total(session, from, &filter)?) } else { None };
    if let Some(after) = &query.after {
        filter.and("j.id > ?", [text(after.as_str())]);
    }
    let items = items(session, (COLUMNS, from), filter, &order, (query.offset, query.limit), |row| {
        let state = JobState::read(row)?;
        let known = known_job(row, N_STATE_COLUMNS, &state.handler)?;
        Ok(state.into_job(&known))
    })?;
    Ok(Page { items, total })
}

pub(crate) fn executions(session: &Session, query: &ExecutionQuery) -> Step<Page<Execution>> {
    if query.sort == ExecutionSort::DueAt {
        if query.job_id.is_none() {
            return Err(Error::invalid("only executions of one job can be sorted by due time").into());
        }
        if let Some(after) = &query.after {
            super::executions::get(session, after)?.ok_or_else(|| Error::not_found("execution", after))?;
        }
    }
    let mut filter = Filter::default();
    if let Some(job_id) = &query.job_id {
        filter.and("job_id = ?", [text(job_id.as_str())]);
    }
    add_statuses(&mut filter, &query.statuses);
    if let Some(trigger) = query.trigger {
        filter.and("made_by = ?", [text(trigger.as_str())]);
    }
    if let Some(node) = &query.node_id {
        filter.and("node_id = ?", [text(node.as_str())]);
    }
    if let Some(root) = &query.root_id {
        let id = || Value::Blob(key(root).to_vec());
        filter.and("(id = ? OR root_id = ?)", [id(), id()]);
    }
    let column = if query.sort == ExecutionSort::DueAt { "due_at" } else { "created_at" };
    if let Some(since) = query.since {
        filter.and(&format!("{column} >= ?"), [Value::Integer(since.as_millis())]);
    }
    if let Some(until) = query.until {
        filter.and(&format!("{column} < ?"), [Value::Integer(until.as_millis())]);
    }
    // How many there are in all does not depend on where the page begins.
    let total = if query.count { Some(total(session, "@executions", &filter)?) } else { None };
    if let Some(after) = &query.after {
        let id = Value::Blob(key(after).to_vec());
        match query.sort {
            ExecutionSort::Newest => filter.and("id < ?", [id]),
            ExecutionSort::Oldest => filter.and("id > ?", [id]),
            ExecutionSort::DueAt => filter.and(
                "(due_at, attempt, nonce) > (SELECT due_at, attempt, nonce FROM @executions WHERE id = ?)",
                [id],
            ),
        }
    }
    let order = match query.sort {
        ExecutionSort::Newest => "id DESC",
        ExecutionSort::Oldest => "id",
        ExecutionSort::DueAt => "due_at, attempt, nonce",
    };
    let from = (execution_columns!(), "@executions");
    let items = items(session, from, filter, order, (query.offset, query.limit), execution)?;
    Ok(Page { items, total })
}

/// The states asked for, with the terms by which SQLite knows that a partial index will do.
fn add_statuses(filter: &mut Filter, statuses: &[Status]) {
    if statuses.is_empty() {
        return;
    }
    let quoted: Vec<String> = statuses.iter().map(|s| format!("'{}'", s.as_str())).collect();
    filter.and(&format!("status IN ({})", quoted.join(", ")), []);
    if statuses.iter().all(|s| !s.is_final()) {
        filter.and("status IN ('pending', 'running')", []);
    } else if statuses.iter().all(|s| s.is_final() && *s != Status::Success) {
        filter.and("status NOT IN ('pending', 'running', 'success')", []);
    }
}
