//! Where the file is and how it is used: parsed from a URL, or built by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use unified_scheduler_core::clock::{Clock, SystemClock};
use unified_scheduler_core::{Error, Result};

/// When SQLite waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// At each commit: what was committed survives the loss of power.
    #[default]
    Full,
    /// At checkpoints only: a loss of power can undo the last commits, so that an occurrence fires twice.
    Normal,
}

impl Synchronous {
    /// The value as it stands in URLs and pragmas.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    File(PathBuf),
    Memory,
}

/// How to open a [`crate::SqliteStore`].
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    pub(crate) place: Place,
    pub(crate) namespace: String,
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) max_pages: Option<u32>,
    pub(crate) clock: Arc<dyn Clock>,
}

const OPTIONS: &str = "namespace, synchronous (full or normal), busy_timeout_ms, max_pages";

impl SqliteConfig {
    /// The database in this file, which is made when there is none.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::File(path.into()))
    }

    /// A database that lives in this process's memory and ends with the store.
    pub fn memory() -> Self {
        Self::at(Place::Memory)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            namespace: "us".to_owned(),
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(10),
            max_pages: None,
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// From `sqlite://relative.db`, `sqlite:///absolute/path.db` or `sqlite::memory:`, with options behind
    /// a `?`: `namespace`, `synchronous`, `busy_timeout_ms`, `max_pages`. `%` escapes a byte of the path.
    ///
    /// ```
    /// # use unified_scheduler_sqlite::SqliteConfig;
    /// let config = SqliteConfig::from_url("sqlite:///var/lib/app/jobs.db?namespace=billing")?;
    /// assert_eq!(config.url(), "sqlite:///var/lib/app/jobs.db?namespace=billing");
    /// # Ok::<(), unified_scheduler_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] for another scheme, no path, or an option that is
    /// unknown or has a bad value.
    pub fn from_url(url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("sqlite:")
            .ok_or_else(|| Error::invalid("a URL of this store begins with `sqlite:`").with("url", url))?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let mut config = if place == ":memory:" || place == "//:memory:" {
            Self::memory()
        } else {
            let path = unescape(place.strip_prefix("//").unwrap_or(place))?;
            if path.is_empty() {
                return Err(Error::invalid(
                    "names no file; write sqlite://jobs.db or sqlite:///path/jobs.db",
                )
                .with("url", url));
            }
            Self::new(path)
        };
        for option in options.split('&').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            config = config.option(key, &unescape(value)?)?;
        }
        Ok(config)
    }

    fn option(mut self, key: &str, value: &str) -> Result<Self> {
        let bad = |what: &str| Error::invalid(format!("`{key}={value}`: {what}"));
        match key {
            "namespace" => return self.namespace(value),
            "synchronous" => {
                self.synchronous = match value.to_ascii_lowercase().as_str() {
                    "full" => Synchronous::Full,
                    "normal" => Synchronous::Normal,
                    _ => return Err(bad("either `full` or `normal`")),
                };
            }
            "busy_timeout_ms" => {
                let millis = value.parse().map_err(|_| bad("a whole number of milliseconds"))?;
                self.busy_timeout = Duration::from_millis(millis);
            }
            "max_pages" => self.max_pages = Some(value.parse().map_err(|_| bad("a number of pages"))?),
            _ => return Err(Error::invalid(format!("no option `{key}`; there are {OPTIONS}"))),
        }
        Ok(self)
    }

    /// The prefix of all table names, `us` by default: several schedulers can share one file.
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] unless it is a lower-case letter followed by at
    /// most 31 lower-case letters, digits and underscores.
    pub fn namespace(mut self, namespace: &str) -> Result<Self> {
        let mut bytes = namespace.bytes();
        let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !head || !tail || namespace.len() > 32 || namespace.starts_with("sqlite") {
            return Err(Error::invalid(format!(
                "`{namespace}` is no namespace; use up to 32 lower-case letters, digits and underscores, a \
                 letter first"
            )));
        }
        namespace.clone_into(&mut self.namespace);
        Ok(self)
    }

    /// When SQLite waits for the disk; [`Synchronous::Full`] by default.
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long a write waits, at most, for other processes to let go of the file; 10 s by default.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// The most pages, of 4,096 bytes each, that the file may grow to; without a limit by default.
    #[must_use]
    pub fn max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }

    /// The store's clock; that of the machine by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The file, unless the database lives in memory.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            Place::Memory => None,
        }
    }

    /// The place as a URL; it holds no secrets.
    pub fn url(&self) -> String {
        let place = match &self.place {
            Place::File(path) => format!("sqlite://{}", path.display()),
            Place::Memory => "sqlite::memory:".to_owned(),
        };
        if self.namespace == "us" { place } else { format!("{place}?namespace={}", self.namespace) }
    }

    /// The beginning of every table name.
    pub(crate) fn prefix(&self) -> String {
        format!("{}_", self.namespace)
    }
}

/// Undoes percent encoding (RFC 3986, section 2.1).
fn unescape(text: &str) -> Result<String> {
    let bad = || Error::invalid(format!("`{text}` is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok()).ok_or_else(bad)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_relative_or_an_absolute_file_or_memory() {
        let place = |url: &str| SqliteConfig::from_url(url).unwrap().place;
        assert_eq!(place("sqlite://jobs.db"), Place::File("jobs.db".into()));
        assert_eq!(place("sqlite:///var/my%20jobs.db"), Place::File("/var/my jobs.db".into()));
        assert_eq!(place("sqlite::memory:"), Place::Memory);
    }

    #[test]
    fn options_are_read_and_unknown_ones_are_refused_with_the_list() {
        let config = SqliteConfig::from_url("sqlite://a.db?namespace=x1&synchronous=normal").unwrap();
        assert_eq!((config.prefix().as_str(), config.synchronous), ("x1_", Synchronous::Normal));
        let error = SqliteConfig::from_url("sqlite://a.db?cache=shared").unwrap_err();
        assert!(error.message().contains("busy_timeout_ms"), "{error}");
        for bad in ["postgres://x", "sqlite://", "sqlite://a.db?synchronous=off", "sqlite://%4"] {
            assert!(SqliteConfig::from_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_namespace_is_an_identifier() {
        for bad in ["", "1a", "A", "a-b", "a;drop", "sqlite_x", &"a".repeat(33)] {
            assert!(SqliteConfig::memory().namespace(bad).is_err(), "{bad}");
        }
    }
}
