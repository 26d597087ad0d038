//! Walks along everything that a store holds, page by page, at a cost that does not grow on the way.

use super::{ExecutionQuery, JobQuery, JobSort, Store};
use crate::error::Result;
use crate::execution::Execution;
use crate::job::Job;

/// How many rows one query reads.
const PAGE: usize = 500;

/// The pages of all jobs that a query finds, in the order of [`JobSort::Id`]. A job that is made or
/// deleted meanwhile is on a page or not; every other is on exactly one.
#[derive(Debug)]
pub struct JobPages<'s> {
    store: &'s dyn Store,
    query: JobQuery,
    done: bool,
}

impl<'s> JobPages<'s> {
    /// All that `query` finds; its own order and page do not count.
    pub fn new(store: &'s dyn Store, query: JobQuery) -> Self {
        let query = JobQuery {
            sort: JobSort::Id,
            descending: false,
            after: None,
            offset: 0,
            limit: PAGE,
            count: false,
            ..query
        };
        Self { store, query, done: false }
    }

    /// The next page; empty when there is none.
    ///
    /// # Errors
    ///
    /// The store's own; the same page can be asked for again.
    pub async fn next(&mut self) -> Result<Vec<Job>> {
        if self.done {
            return Ok(Vec::new());
        }
        let page = self.store.list_jobs(&self.query).await?.items;
        // A short page is no end: what can't be read is left out of it.
        match page.last() {
            Some(last) => self.query.after = Some(last.id.clone()),
            None => self.done = true,
        }
        Ok(page)
    }
}

/// The pages of all executions that a query finds, in its order.
#[derive(Debug)]
pub struct ExecutionPages<'s> {
    store: &'s dyn Store,
    query: ExecutionQuery,
    done: bool,
}

impl<'s> ExecutionPages<'s> {
    /// All that `query` finds; its own page does not count.
    pub fn new(store: &'s dyn Store, query: ExecutionQuery) -> Self {
        let query = ExecutionQuery { after: None, offset: 0, limit: PAGE, count: false, ..query };
        Self { store, query, done: false }
    }

    /// The next page; empty when there is none.
    ///
    /// # Errors
    ///
    /// The store's own; the same page can be asked for again.
    pub async fn next(&mut self) -> Result<Vec<Execution>> {
        if self.done {
            return Ok(Vec::new());
        }
        let page = self.store.list_executions(&self.query).await?.items;
        match page.last() {
            Some(last) => self.query.after = Some(last.id),
            None => self.done = true,
        }
        Ok(page)
    }
}
