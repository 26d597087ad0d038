//! One connection at work for one call: statements, transactions, the clock, the hint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{AssertSqlSafe, Row as _};
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::schedule::Calendars;

use crate::cache::JobCache;
use crate::config::PostgresConfig;
use crate::error::Step;
use crate::hints::{CHANNEL, Hints};
use crate::pool::{Lent, Pool};
use crate::queries::look::Quiet;
use crate::queries::pick::Lanes;

/// What all calls of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: PostgresConfig,
    pub(crate) schema: String,
    pub(crate) pool: Pool,
    pub(crate) hints: Hints,
    pub(crate) jobs: Mutex<JobCache>,
    pub(crate) calendars: Mutex<Option<(i64, Arc<Calendars>)>>,
    pub(crate) pages: Mutex<Pages>,
    pub(crate) lanes: Mutex<Option<Lanes>>,
    /// What the last claim found, if that was nothing.
    pub(crate) quiet: Mutex<Option<Quiet>>,
    /// Statements with the schema filled in, by the address and length of their text.
    texts: Mutex<HashMap<(usize, usize), Arc<str>>>,
    begin: String,
}

/// How many candidates a claim looks at; see [`crate::queries::claim`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pages {
    /// Due jobs beyond the limit.
    pub(crate) spare: i64,
    /// Pending executions.
    pub(crate) pending: i64,
}

impl Shared {
    pub(crate) fn new(config: PostgresConfig) -> Self {
        let mut begin = "BEGIN".to_owned();
        if config.is_pooled() {
            for (name, value) in config.settings() {
                begin.extend(["; SET LOCAL ", name, " = '", &value, "'"]);
            }
        }
        let schema = config.schema();
        Self {
            pool: Pool::new(config.connect_options(), config.max_connections),
            hints: Hints::new(schema.clone()),
            jobs: Mutex::new(JobCache::new(config.cached_jobs)),
            calendars: Mutex::default(),
            pages: Mutex::new(Pages { spare: 64, pending: 256 }),
            lanes: Mutex::default(),
            quiet: Mutex::default(),
            texts: Mutex::default(),
            schema,
            config,
            begin,
        }
    }

    /// `sql` with the schema in place of each `@`.
    pub(crate) fn text(&self, sql: &str) -> String {
        sql.replace('@', &format!("{}.", self.schema))
    }

    /// The same for a text that is asked for again and again.
    fn known_text(&self, sql: &'static str) -> Arc<str> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(texts.entry((sql.as_ptr() as usize, sql.len())).or_insert_with(|| self.text(sql).into()))
    }

    /// The time to take in place of the server's, in tests.
    pub(crate) fn fixed_now(&self) -> Option<i64> {
        self.config.clock.as_ref().map(|clock| clock.now().as_millis())
    }
}

/// A connection at work.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    /// Whether the step at work has made something due that others should look for.
    pub(crate) hint: bool,
    lent: Option<Lent>,
    /// A statement has been sent and not yet answered.
    busy: bool,
    in_transaction: bool,
}

/// The values of a statement, in order.
macro_rules! params {
    () => {
        sqlx::postgres::PgArguments::default()
    };
    ($($value:expr),* $(,)?) => {{
        let mut arguments = sqlx::postgres::PgArguments::default();
        $($crate::session::bind(&mut arguments, $value)?;)*
        arguments
    }};
}
pub(crate) use params;

/// Adds one value.
pub(crate) fn bind<'q, T>(arguments: &mut PgArguments, value: T) -> Step<()>
where
    T: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + 'q,
{
    use sqlx::Arguments as _;
    Ok(arguments.add(value).map_err(sqlx::Error::Encode)?)
}

impl Session {
    /// For single statements, each of which is a transaction of its own.
    pub(crate) async fn open(shared: &Arc<Shared>) -> Step<Self> {
        let lent = Some(shared.pool.acquire().await?);
        let mut session =
            Self { shared: Arc::clone(shared), hint: false, lent, busy: false, in_transaction: false };
        if shared.config.is_pooled() {
            session.start().await?;
        }
        Ok(session)
    }

    /// For several statements in one transaction.
    pub(crate) async fn begin(shared: &Arc<Shared>) -> Step<Self> {
        let mut session = Self::open(shared).await?;
        if !session.in_transaction {
            session.start().await?;
        }
        Ok(session)
    }

    async fn start(&mut self) -> Step<()> {
        let begin = self.shared.begin.clone();
        self.command(begin).await?;
        self.in_transaction = true;
        Ok(())
    }

    /// Commits, tells others if there is something to tell, and gives the connection back.
    pub(crate) async fn finish(mut self) -> Step<()> {
        if self.in_transaction {
            let commit = if self.hint {
                let payload = self.shared.hints.payload();
                format!("SELECT pg_notify('{CHANNEL}', '{payload}'); COMMIT")
            } else {
                "COMMIT".to_owned()
            };
            self.command(commit).await?;
            self.in_transaction = false;
        }
        if self.hint {
            self.shared.hints.tell();
        }
        Ok(())
    }

    /// Undoes what the transaction did so far, and begins another.
    pub(crate) async fn start_again(&mut self) -> Step<()> {
        self.command("ROLLBACK".to_owned()).await?;
        self.in_transaction = false;
        self.hint = false;
        self.start().await
    }

    /// Runs statements without values, in one message.
    pub(crate) async fn command(&mut self, sql: String) -> Step<()> {
        let Some(lent) = &mut self.lent else { return Err(crate::pool::closed().into()) };
        self.busy = true;
        let result = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut lent.connection).await;
        self.settle(result.map(|_| ()))
    }

    /// Every row that a statement answers; `@` in `sql` stands for the schema.
    pub(crate) async fn all(&mut self, sql: &'static str, params: PgArguments) -> Step<Vec<PgRow>> {
        let text = self.shared.known_text(sql);
        self.all_of(text, params).await
    }

    /// The same for a statement that was put together.
    pub(crate) async fn all_of(&mut self, text: Arc<str>, params: PgArguments) -> Step<Vec<PgRow>> {
        let persistent = !self.shared.config.is_pooled();
        let Some(lent) = &mut self.lent else { return Err(crate::pool::closed().into()) };
        self.busy = true;
        let query = sqlx::query_with(AssertSqlSafe(text), params).persistent(persistent);
        let result = query.fetch_all(&mut lent.connection).await;
        self.settle(result)
    }

    /// The first row, if there is one.
    pub(crate) async fn first(&mut self, sql: &'static str, params: PgArguments) -> Step<Option<PgRow>> {
        Ok(self.all(sql, params).await?.into_iter().next())
    }

    /// Runs a statement; answers how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, params: PgArguments) -> Step<u64> {
        let text = self.shared.known_text(sql);
        let persistent = !self.shared.config.is_pooled();
        let Some(lent) = &mut self.lent else { return Err(crate::pool::closed().into()) };
        self.busy = true;
        let query = sqlx::query_with(AssertSqlSafe(text), params).persistent(persistent);
        let result = query.execute(&mut lent.connection).await;
        self.settle(result.map(|done| done.rows_affected()))
    }

    /// Takes note of whether the connection can be used further.
    fn settle<T>(&mut self, result: Result<T, sqlx::Error>) -> Step<T> {
        let result = result.map_err(crate::error::Fail::from);
        match &result {
            Ok(_) => self.busy = false,
            Err(fail) if fail.spares_connection() => self.busy = false,
            Err(_) => self.shared.pool.forget_idle(),
        }
        result
    }

    /// The server's clock, or the one that a test has set.
    pub(crate) async fn now(&mut self) -> Step<Timestamp> {
        const SQL: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        if let Some(now) = self.shared.fixed_now() {
            return Ok(Timestamp::from_millis(now));
        }
        let row = self.first(SQL, params![]).await?.ok_or(sqlx::Error::RowNotFound)?;
        Ok(Timestamp::from_millis(row.try_get(0)?))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take()
            && !self.busy
            && !self.in_transaction
        {
            self.shared.pool.give_back(lent);
        }
    }
}

/// A duration as a column of milliseconds.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
