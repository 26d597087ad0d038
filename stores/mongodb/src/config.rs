//! Where the database is and how it is used: parsed from a URL, or built by hand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use unified_scheduler_core::clock::Clock;
use unified_scheduler_core::{Error, Result};

/// How to open a [`crate::MongodbStore`].
#[derive(Clone)]
pub struct MongodbConfig {
    /// For the driver, with what is secret, and without our own parameters.
    pub(crate) url: String,
    pub(crate) database: String,
    pub(crate) namespace: String,
    pub(crate) deadline: Duration,
    pub(crate) scan_interval: Duration,
    /// Whether other programs are looked for from the start, not only once they are known to write here.
    pub(crate) expects_strangers: bool,
    pub(crate) indexes: bool,
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

const OPTIONS: &str =
    "namespace, deadline_ms, scan_interval_ms, create_indexes, and those of MongoDB's connection strings";

impl MongodbConfig {
    /// From `mongodb://user:password@host:27017/database` or `mongodb+srv://…/database`, with the options
    /// of MongoDB's connection strings behind a `?`, and our own:
    ///
    /// - `namespace`: the prefix of all collection names, with `_` behind it; without one, the collections
    ///   are those of the existing backend.
    /// - `deadline_ms`: how long one call may take; 10,000 by default.
    /// - `scan_interval_ms`: how often jobs are looked for that other programs wrote; 5,000 by default, and
    ///   then only once some were met.
    /// - `create_indexes`: `false` leaves the indexes to the administrator.
    ///
    /// ```
    /// # use unified_scheduler_mongodb::MongodbConfig;
    /// let config = MongodbConfig::from_url("mongodb://me:secret@localhost/app?namespace=billing")?;
    /// assert_eq!(config.url(), "mongodb://localhost/app?namespace=billing");
    /// # Ok::<(), unified_scheduler_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] for another scheme, no database in the path, or an
    /// option that is unknown or has a bad value.
    pub fn from_url(url: &str) -> Result<Self> {
        let (scheme, rest) = url
            .split_once("://")
            .filter(|(scheme, _)| ["mongodb", "mongodb+srv"].contains(scheme))
            .ok_or_else(|| {
                Error::invalid("a URL of this store begins with `mongodb://` or `mongodb+srv://`")
            })?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold a slash only as `%2F`.
        let (_, database) = place.split_once('/').unwrap_or((place, ""));
        if database.is_empty() {
            return Err(Error::invalid("the URL names no database; write mongodb://host:27017/DATABASE")
                .with("url", location(scheme, place, "")));
        }
        let mut config = Self {
            url: String::new(),
            database: unescape(database)?,
            namespace: String::new(),
            deadline: Duration::from_secs(10),
            scan_interval: Duration::from_secs(5),
            expects_strangers: false,
            indexes: true,
            clock: None,
        };
        let mut others = Vec::new();
        for option in options.split('&').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            if !config.option(key, value)? {
                others.push(option);
            }
        }
        let separator = if others.is_empty() { "" } else { "?" };
        config.url = format!("{scheme}://{place}{separator}{}", others.join("&"));
        Ok(config)
    }

    fn option(&mut self, key: &str, value: &str) -> Result<bool> {
        let bad = |what: &str| Error::invalid(format!("`{key}={value}`: {what}"));
        let millis =
            || value.parse().map(Duration::from_millis).map_err(|_| bad("a whole number of milliseconds"));
        match key {
            "namespace" => *self = self.clone().namespace(value)?,
            "deadline_ms" => self.deadline = millis()?,
            "scan_interval_ms" => (self.scan_interval, self.expects_strangers) = (millis()?, true),
            "create_indexes" => {
                self.indexes = value.parse().map_err(|_| bad("either `true` or `false`"))?;
            }
            _ if KNOWN_TO_THE_DRIVER.contains(&key.to_ascii_lowercase().as_str()) => return Ok(false),
            _ => return Err(Error::invalid(format!("no option `{key}`; there are {OPTIONS}"))),
        }
        Ok(true)
    }

    /// The prefix of all collection names; several schedulers can share one database.
    ///
    /// # Errors
    ///
    /// [`unified_scheduler_core::ErrorKind::Invalid`] unless it is a lower-case letter followed by at
    /// most 31 lower-case letters, digits and underscores.
    pub fn namespace(mut self, namespace: &str) -> Result<Self> {
        let mut bytes = namespace.bytes();
        let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !head || !tail || namespace.len() > 32 || namespace.starts_with("system") {
            return Err(Error::invalid(format!(
                "`{namespace}` is no namespace; use up to 32 lower-case letters, digits and underscores, a \
                 letter first"
            )));
        }
        namespace.clone_into(&mut self.namespace);
        Ok(self)
    }

    /// How long one call may take; 10 s by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How often jobs are looked for that other programs wrote or edited; 5 s by default.
    #[must_use]
    pub fn scan_interval(mut self, interval: Duration) -> Self {
        self.scan_interval = interval;
        self
    }

    /// The store's clock, in place of the server's: for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The place as a URL, without user, password and options.
    pub fn url(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("mongodb", ""));
        location(scheme, rest.split('?').next().unwrap_or_default(), &self.namespace)
    }
}

impl fmt::Debug for MongodbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongodbConfig").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// The place without what is before the last `@`.
fn location(scheme: &str, place: &str, namespace: &str) -> String {
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let namespace = if namespace.is_empty() { String::new() } else { format!("?namespace={namespace}") };
    format!("{scheme}://{place}{namespace}")
}

/// Undoes percent encoding (RFC 3986, section 2.1).
fn unescape(text: &str) -> Result<String> {
    let bad = || Error::invalid("the name of the database in the URL is not percent-encoded UTF-8");
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

/// The options that the driver's own connection strings have. It refuses bad values itself.
const KNOWN_TO_THE_DRIVER: &[&str] = &[
    "appname",
    "authmechanism",
    "authmechanismproperties",
    "authsource",
    "compressors",
    "connecttimeoutms",
    "directconnection",
    "heartbeatfrequencyms",
    "journal",
    "loadbalanced",
    "localthresholdms",
    "maxconnecting",
    "maxidletimems",
    "maxpoolsize",
    "maxstalenessseconds",
    "minpoolsize",
    "readconcernlevel",
    "readpreference",
    "readpreferencetags",
    "replicaset",
    "retryreads",
    "retrywrites",
    "servermonitoringmode",
    "serverselectiontimeoutms",
    "sockettimeoutms",
    "srvmaxhosts",
    "srvservicename",
    "ssl",
    "tls",
    "tlsallowinvalidcertificates",
    "tlscafile",
    "tlscertificatekeyfile",
    "tlsinsecure",
    "uuidrepresentation",
    "w",
    "waitqueuetimeoutms",
    "wtimeoutms",
    "zlibcompressionlevel",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_database_and_our_options_are_taken_out() {
        let url = "mongodb://u:p%40ss@a:1,b:2/app?replicaSet=rs0&namespace=x&deadline_ms=500&w=majority";
        let config = MongodbConfig::from_url(url).unwrap();
        assert_eq!(config.url, "mongodb://u:p%40ss@a:1,b:2/app?replicaSet=rs0&w=majority");
        assert_eq!((config.database.as_str(), config.namespace.as_str()), ("app", "x"));
        assert_eq!(config.deadline, Duration::from_millis(500));
    }

    #[test]
    fn others_are_expected_where_the_url_says_how_often_to_look_for_them() {
        let usual = MongodbConfig::from_url("mongodb://h/db").unwrap();
        assert!(!usual.expects_strangers);
        let config = MongodbConfig::from_url("mongodb://h/db?scan_interval_ms=500").unwrap();
        assert!(config.expects_strangers);
        assert_eq!(config.scan_interval, Duration::from_millis(500));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_secrets() {
        for bad in [
            "postgres://u:secret@h/db",
            "mongodb://u:secret@h",
            "mongodb://u:secret@h/?w=1",
            "mongodb://u:secret@h/db?nonsense=1",
            "mongodb://u:secret@h/db?deadline_ms=soon",
            "mongodb://u:secret@h/db?namespace=A-B",
            "mongodb://u:secret@h/d%4",
        ] {
            let error = MongodbConfig::from_url(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
        let error = MongodbConfig::from_url("mongodb://h/db?colour=red").unwrap_err();
        assert!(error.message().contains("`colour`") && error.message().contains("namespace"), "{error}");
    }

    #[test]
    fn a_config_shows_no_password() {
        let config = MongodbConfig::from_url("mongodb://user:secret@host/db?authSource=admin").unwrap();
        assert!(!format!("{config:?} {}", config.url()).contains("secret"));
        assert_eq!(config.url(), "mongodb://host/db");
    }
}
