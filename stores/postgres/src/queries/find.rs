//! Lists of jobs and executions: filters, order, pages.

use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use unified_scheduler_core::Error;
use unified_scheduler_core::execution::{Execution, Status};
use unified_scheduler_core::job::Job;
use unified_scheduler_core::store::{ExecutionQuery, ExecutionSort, JobQuery, JobSort, Page};

use crate::error::Step;
use crate::rows::{count, execution_columns, int, job, job_columns, key, missing, readable, state_columns};
use crate::session::{Session, bind, params};

/// The conditions of a query, with their values.
#[derive(Default)]
struct Filter {
    sql: String,
    values: PgArguments,
    n_values: usize,
}

impl Filter {
    /// Adds a condition without a value.
    fn with(&mut self, condition: &str) {
        self.sql.push_str(if self.sql.is_empty() { " WHERE " } else { " AND " });
        self.sql.push_str(condition);
    }

    /// Adds a condition; each `?` in it is `value`.
    fn and<'q, T>(&mut self, condition: &str, value: T) -> Step<()>
    where
        T: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + 'q,
    {
        bind(&mut self.values, value)?;
        self.n_values += 1;
        let place = format!("${}", self.n_values);
        self.with(&condition.replace('?', &place));
        Ok(())
    }
}

/// How many rows there are in all.
async fn total(session: &mut Session, from: &str, filter: &Filter) -> Step<u64> {
    let sql = session.shared.text(&format!("SELECT count(*) FROM {from}{}", filter.sql));
    let rows = session.all_of(sql.into(), filter.values.clone()).await?;
    Ok(count(rows.first().ok_or_else(missing)?.try_get(0)?))
}

/// One page of rows.
async fn items(
    session: &mut Session,
    (columns, from): (&str, &str),
    filter: Filter,
    order: &str,
    (offset, limit): (u64, usize),
) -> Step<Vec<PgRow>> {
    let Filter { sql, mut values, n_values } = filter;
    let next = n_values + 1;
    // The limit stands there as a number, since a plan for any limit expects a tenth of all rows.
    let sql = format!("SELECT {columns} FROM {from}{sql} ORDER BY {order} LIMIT {limit} OFFSET ${next}");
    bind(&mut values, int(offset))?;
    let sql = session.shared.text(&sql);
    session.all_of(sql.into(), values).await
}

pub(crate) async fn jobs(session: &mut Session, query: &JobQuery) -> Step<Page<Job>> {
    const COLUMNS: &str = concat!(state_columns!(), ", ", job_columns!());
    query.check()?;
    let mut filter = Filter::default();
    if let Some(name) = &query.name {
        filter.and("j.name = ?", name.as_str())?;
    }
    if let Some(part) = &query.search {
        // In the locale of Unicode itself, whatever that of the database.
        let condition = "(position(lower(?) IN lower(j.name COLLATE \"default\")) > 0 \
                         OR position(lower(?) IN lower(j.description)) > 0)";
        filter.and(condition, part.to_lowercase())?;
    }
    if !query.handlers.is_empty() {
        filter.and("s.handler = ANY (?)", query.handlers.as_slice())?;
    }
    if let Some(enabled) = query.enabled {
        filter.with(if enabled { "s.enabled" } else { "NOT s.enabled" });
    }
    if let Some(origin) = query.origin {
        filter.and("j.origin = ?", origin.as_str())?;
    }
    if let Some(tag) = &query.tag {
        filter.and("? = ANY (j.tags)", tag.as_str())?;
    }
    match query.faulty {
        Some(true) => filter.with("s.fault IS NOT NULL"),
        Some(false) => filter.with("s.fault IS NULL"),
        None => {}
    }
    let direction = if query.descending { "DESC" } else { "ASC" };
    let order = match query.sort {
        JobSort::Name => format!("j.name {direction}, j.id"),
        JobSort::CreatedAt => format!("j.created_at {direction}, j.id"),
        JobSort::DueAt => format!("s.due_at {direction} NULLS LAST, j.id"),
        JobSort::Id => format!("j.id {direction}"),
        JobSort::LastRunAt => format!("s.last_run_at {direction} NULLS LAST, j.id"),
    };
    let from = "@jobs j JOIN @job_state s USING (id)";
    let total = if query.count { Some(total(session, from, &filter).await?) } else { None };
    if let Some(after) = &query.after {
        filter.and("j.id > ?", after.as_str())?;
    }
    let rows = items(session, (COLUMNS, from), filter, &order, (query.offset, query.limit)).await?;
    let items = rows.iter().map(job).collect::<Step<Vec<Job>>>()?;
    Ok(Page { items, total })
}

pub(crate) async fn executions(session: &mut Session, query: &ExecutionQuery) -> Step<Page<Execution>> {
    if query.sort == ExecutionSort::DueAt {
        if query.job_id.is_none() {
            return Err(Error::invalid("only executions of one job can be sorted by due time").into());
        }
        if let Some(after) = &query.after {
            let there = session.first("SELECT FROM @executions WHERE id = $1", params![key(after)]).await?;
            there.ok_or_else(|| Error::not_found("execution", after))?;
        }
    }
    let mut filter = Filter::default();
    if let Some(job_id) = &query.job_id {
        filter.and("e.job_id = ?", job_id.as_str())?;
    }
    add_statuses(&mut filter, &query.statuses);
    if let Some(trigger) = query.trigger {
        filter.and("e.made_by = ?", trigger.as_str())?;
    }
    if let Some(node) = &query.node_id {
        filter.and("e.node_id = ?", node.as_str())?;
    }
    if let Some(root) = &query.root_id {
        filter.and(
            "e.id IN (SELECT ? UNION ALL SELECT r.id FROM @executions r WHERE r.root_id = ?)",
            key(root),
        )?;
    }
    let column = if query.sort == ExecutionSort::DueAt { "e.due_at" } else { "e.created_at" };
    if let Some(since) = query.since {
        filter.and(&format!("{column} >= ?"), since.as_millis())?;
    }
    if let Some(until) = query.until {
        filter.and(&format!("{column} < ?"), until.as_millis())?;
    }
    // How many there are in all does not depend on where the page begins.
    let total = if query.count { Some(total(session, "@executions e", &filter).await?) } else { None };
    if let Some(after) = &query.after {
        let condition = match query.sort {
            ExecutionSort::Newest => "e.id < ?",
            ExecutionSort::Oldest => "e.id > ?",
            ExecutionSort::DueAt => {
                "(e.due_at, e.attempt, e.nonce) > \
                 (SELECT a.due_at, a.attempt, a.nonce FROM @executions a WHERE a.id = ?)"
            }
        };
        filter.and(condition, key(after))?;
    }
    let order = match query.sort {
        ExecutionSort::Newest => "e.id DESC",
        ExecutionSort::Oldest => "e.id",
        ExecutionSort::DueAt => "e.due_at, e.attempt, e.nonce",
    };
    let from = (execution_columns!(), "@executions e");
    let rows = items(session, from, filter, order, (query.offset, query.limit)).await?;
    Ok(Page { items: readable(&rows)?, total })
}

/// The states asked for, with the terms by which the server knows that a partial index will do.
fn add_statuses(filter: &mut Filter, statuses: &[Status]) {
    if statuses.is_empty() {
        return;
    }
    let quoted: Vec<String> = statuses.iter().map(|s| format!("'{}'", s.as_str())).collect();
    filter.with(&format!("e.status IN ({})", quoted.join(", ")));
    if statuses.iter().all(|s| !s.is_final()) {
        filter.with("e.ended_at IS NULL");
    } else if statuses.iter().all(|s| s.is_final() && *s != Status::Success) {
        filter.with("e.status NOT IN ('pending', 'running', 'success')");
    }
}
