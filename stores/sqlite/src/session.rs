//! One connection with what belongs to it: statements, caches, the clock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};
use unified_scheduler_core::clock::Clock;
use unified_scheduler_core::schedule::Calendars;
use unified_scheduler_core::{Error, Timestamp};

use crate::cache::JobCache;
use crate::error::Step;

/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 96;

/// A connection at work. Never shared between threads.
pub(crate) struct Session {
    pub(crate) conn: Connection,
    pub(crate) jobs: JobCache,
    pub(crate) calendars: Option<(i64, Arc<Calendars>)>,
    /// Whether the step at work has made something due that other nodes should look for.
    pub(crate) hint: bool,
    prefix: String,
    /// Statements with the prefix filled in, by the address and length of their text.
    texts: RefCell<HashMap<(usize, usize), Arc<str>>>,
    clock: Arc<dyn Clock>,
}

impl Session {
    pub(crate) fn new(conn: Connection, prefix: String, clock: Arc<dyn Clock>, cached_jobs: usize) -> Self {
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        Self {
            conn,
            jobs: JobCache::new(cached_jobs),
            calendars: None,
            hint: false,
            prefix,
            texts: RefCell::default(),
            clock,
        }
    }

    /// The store's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// `sql` with the namespace's prefix in place of each `@`.
    pub(crate) fn text(&self, sql: &str) -> String {
        sql.replace('@', &self.prefix)
    }

    /// A prepared statement; `@` in `sql` stands for the namespace's prefix.
    pub(crate) fn prepare(&self, sql: &'static str) -> Step<CachedStatement<'_>> {
        let text = Arc::clone(
            self.texts
                .borrow_mut()
                .entry((sql.as_ptr() as usize, sql.len()))
                .or_insert_with(|| sql.replace('@', &self.prefix).into()),
        );
        Ok(self.conn.prepare_cached(&text)?)
    }

    /// Runs a statement; answers how many rows it changed.
    pub(crate) fn execute(&self, sql: &'static str, params: impl Params) -> Step<usize> {
        Ok(self.prepare(sql)?.execute(params)?)
    }

    /// The first row of a query, if there is one.
    pub(crate) fn first<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Step<Option<T>> {
        Ok(self.prepare(sql)?.query_row(params, read).optional()?)
    }

    /// Every row of a query.
    pub(crate) fn all<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Step<T>,
    ) -> Step<Vec<T>> {
        let mut statement = self.prepare(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }

    /// Every row of a query that can be read. The others, of a newer version perhaps, are left alone: they
    /// must not stop what can be done.
    pub(crate) fn readable<T>(
        &self,
        sql: &'static str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Step<T>,
    ) -> Step<Vec<T>> {
        let found = self.all(sql, params, |row| readable(read(row)))?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Runs `step` whole or, when it fails, not at all.
    pub(crate) fn nested<T>(&mut self, step: impl FnOnce(&mut Self) -> Step<T>) -> Step<T> {
        self.execute("SAVEPOINT step", [])?;
        let hint = self.hint;
        let result = step(self);
        if result.is_err() {
            self.hint = hint;
            self.execute("ROLLBACK TO step", [])?;
        }
        self.execute("RELEASE step", [])?;
        result
    }
}

/// `None` for a row that can't be read.
pub(crate) fn readable<T>(row: Step<T>) -> Step<Option<T>> {
    match row {
        Ok(value) => Ok(Some(value)),
        Err(fail) if fail.is_unreadable() => {
            tracing::warn!(error = %Error::from(fail), "a row can't be read, and is left alone");
            Ok(None)
        }
        Err(fail) => Err(fail),
    }
}
