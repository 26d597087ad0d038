//! Where the database is and how it is used: parsed from a URL.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use unified_scheduler_core::clock::Clock;
use unified_scheduler_core::{Error, Result};

/// How to open a [`crate::PostgresStore`].
#[derive(Clone)]
pub struct PostgresConfig {
    options: PgConnectOptions,
    namespace: Option<String>,
    pub(crate) max_connections: u32,
    pub(crate) timeout: Duration,
    pub(crate) statement_cache: usize,
    pub(crate) cached_jobs: usize,
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

const OURS: &str = "namespace, max_connections, timeout_ms, statement_cache, cached_jobs";

/// What the driver takes.
const DRIVERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "options[",
];

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("url", &self.url())
            .field("max_connections", &self.max_connections)
            .field("timeout", &self.timeout)
            .field("statement_cache", &self.statement_cache)
            .finish_non_exhaustive()
    }
}

impl PostgresConfig {
    /// From `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, as `psql` and other drivers take it, with
    /// their parameters for TLS (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`), sockets (`host=/run/…`),
    /// and the environment's `PG…` variables and password file behind it. Ours, behind a `?`:
    ///
    /// - `namespace`: see [`Self::namespace`];
    /// - `max_connections`: see [`Self::max_connections`];
    /// - `timeout_ms`: see [`Self::timeout`];
    /// - `statement_cache`: see [`Self::statement_cache`];
    /// - `cached_jobs`: see [`Self::cached_jobs`].
    ///
    /// ```
    /// # use unified_scheduler_postgres::PostgresConfig;
    /// let config = PostgresConfig::from_url("postgres://app:secret@db.example:5432/app?namespace=billing")?;
    /// assert_eq!(config.url(), "postgres://app@db.example:5432/app?namespace=billing");
    /// # Ok::<(), unified_scheduler_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] for another scheme, a URL that can't be read, or a
    /// parameter that is unknown or has a bad value. The message never holds the URL's password.
    pub fn from_url(url: &str) -> Result<Self> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(Error::invalid("a URL of this store begins with `postgres://`"));
        }
        let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if DRIVERS.contains(&key) || key.starts_with("options[") {
                is_there(key, value)?;
                theirs.push(parameter);
            } else {
                ours.push((key, value));
            }
        }
        let rest = if theirs.is_empty() { place.to_owned() } else { format!("{place}?{}", theirs.join("&")) };
        let options = PgConnectOptions::from_str(&rest)
            .map_err(|error| Error::invalid(format!("the URL can't be read: {error}")))?;
        let mut config = Self {
            options,
            namespace: None,
            max_connections: 6,
            timeout: Duration::from_secs(10),
            statement_cache: 256,
            cached_jobs: 1 << 14,
            clock: None,
        };
        for (key, value) in ours {
            config = config.parameter(key, value)?;
        }
        Ok(config)
    }

    fn parameter(self, key: &str, value: &str) -> Result<Self> {
        let number = || {
            value
                .parse::<u32>()
                .map_err(|_| Error::invalid(format!("`{key}={value}`: a whole number is wanted")))
        };
        let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(match key {
            "namespace" => return self.namespace(value),
            "max_connections" => self.max_connections(number()?),
            "timeout_ms" => self.timeout(Duration::from_millis(number()?.into())),
            "statement_cache" => self.statement_cache(size(number()?)),
            "cached_jobs" => self.cached_jobs(size(number()?)),
            _ => {
                return Err(Error::invalid(format!(
                    "no parameter `{key}`; there are {OURS}, and the driver's: sslmode, sslrootcert, sslcert, \
                     sslkey, host, port, dbname, user, password, application_name, options"
                )));
            }
        })
    }

    /// Several schedulers can share one database: each namespace has a schema of its own,
    /// `unified_scheduler_NAMESPACE`, and without one it is `unified_scheduler`.
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] unless it is a lower-case letter followed by at
    /// most 31 lower-case letters, digits and underscores.
    pub fn namespace(mut self, namespace: &str) -> Result<Self> {
        let mut bytes = namespace.bytes();
        let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !head || !tail || namespace.len() > 32 {
            return Err(Error::invalid(format!(
                "`{namespace}` is no namespace; use up to 32 lower-case letters, digits and underscores, a \
                 letter first"
            )));
        }
        self.namespace = Some(namespace.to_owned());
        Ok(self)
    }

    /// The most connections at once, 6 by default, at least 2; one more listens for notifications. The
    /// server's `max_connections` must have room for those of all nodes.
    #[must_use]
    pub fn max_connections(mut self, n: u32) -> Self {
        self.max_connections = n.clamp(2, 1000);
        self
    }

    /// How long a call may take; 10 s by default. After it the call answers
    /// [`unified_scheduler_core::ErrorKind::Unavailable`], and what it wanted may have happened or not.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.clamp(Duration::from_millis(50), Duration::from_secs(3600));
        self
    }

    /// How many prepared statements a connection keeps; 256 by default. 0 keeps none, and puts each call into
    /// one transaction that sets what it needs: for poolers in transaction mode, such as `PgBouncer`.
    #[must_use]
    pub fn statement_cache(mut self, n: usize) -> Self {
        self.statement_cache = n;
        self
    }

    /// How many parsed definitions are kept; 16,384 by default, about a kilobyte each.
    #[must_use]
    pub fn cached_jobs(mut self, n: usize) -> Self {
        self.cached_jobs = n;
        self
    }

    /// A clock in place of the server's: for tests only.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The place as a URL, without password and without what is only about the connection.
    pub fn url(&self) -> String {
        let options = &self.options;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let database = options.get_database().unwrap_or(options.get_username());
        let place = format!("postgres://{}@{host}:{}/{database}", options.get_username(), options.get_port());
        match &self.namespace {
            Some(namespace) => format!("{place}?namespace={namespace}"),
            None => place,
        }
    }

    /// The schema that holds the tables.
    pub(crate) fn schema(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("unified_scheduler_{namespace}"),
            None => "unified_scheduler".to_owned(),
        }
    }

    /// Whether a pooler may give each transaction another session.
    pub(crate) fn is_pooled(&self) -> bool {
        self.statement_cache == 0
    }

    /// What each session is to be set to.
    ///
    /// The statements of claims and completions are written for indexes, and each batch is small. Without
    /// the five settings after `jit` a table whose statistics are older than its last thousand rows is read whole.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let millis = |duration: Duration| duration.as_millis().to_string();
        let off = || "off".to_owned();
        vec![
            ("statement_timeout", millis(self.timeout)),
            ("lock_timeout", millis(self.timeout / 2)),
            // A process that was stopped in the middle of a claim holds rows for no longer.
            ("idle_in_transaction_session_timeout", millis(self.timeout.min(Duration::from_secs(5)))),
            ("jit", off()),
            ("enable_seqscan", off()),
            ("enable_hashjoin", off()),
            ("enable_mergejoin", off()),
            ("enable_bitmapscan", off()),
            ("random_page_cost", "0.01".to_owned()),
            // There is nothing to gain from planning again with the values of each call.
            ("plan_cache_mode", "force_generic_plan".to_owned()),
        ]
    }

    /// What the driver is to connect with.
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        // Poolers refuse this parameter, and nothing here is a float.
        let options = self.options.clone().disable_statement_logging().extra_float_digits(None);
        let options = options.statement_cache_capacity(self.statement_cache);
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("unified-scheduler"),
        };
        // A pooler refuses them at the start; there each transaction sets them for itself.
        if self.is_pooled() { options } else { options.options(self.settings()) }
    }
}

/// Refuses a file for TLS that can't be read: from the driver it would come as if the server were away.
fn is_there(key: &str, value: &str) -> Result<()> {
    const FILES: [&str; 7] =
        ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert", "sslkey", "ssl-key"];
    // What is written otherwise is left to the driver.
    if !FILES.contains(&key) || value.contains('%') {
        return Ok(());
    }
    match std::fs::metadata(value) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::invalid(format!("`{key}={value}` can't be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_parameters_are_read_and_the_drivers_are_left_to_it() {
        let url =
            "postgres://u:p%40ss@h:6543/d?namespace=x1&sslmode=disable&timeout_ms=1500&statement_cache=0";
        let config = PostgresConfig::from_url(url).unwrap();
        assert_eq!((config.schema().as_str(), config.timeout.as_millis()), ("unified_scheduler_x1", 1500));
        assert!(config.is_pooled());
        assert_eq!(config.url(), "postgres://u@h:6543/d?namespace=x1");
    }

    #[test]
    fn unknown_parameters_and_bad_values_are_refused_by_name() {
        for (parameter, named) in
            [("colour=red", "colour"), ("max_connections=many", "max_connections"), ("namespace=A-b", "A-b")]
        {
            let url = format!("postgres://user:hush@localhost/db?{parameter}");
            let error = PostgresConfig::from_url(&url).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("hush"), "{error}");
        }
        for bad in ["mysql://user:hush@h/d", "postgres://user:hush@h:notaport/d", "postgres://user:hush@[/d"]
        {
            let error = PostgresConfig::from_url(bad).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let config = PostgresConfig::from_url("postgres://user:hush@localhost/db?password=hush").unwrap();
        assert!(!format!("{config:?} {}", config.url()).contains("hush"));
    }
}
