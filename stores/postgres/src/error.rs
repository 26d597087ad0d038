//! Where errors of the driver become ours: the one place.

use std::borrow::Cow;
use std::error::Error as _;

use unified_scheduler_core::{Error, ErrorKind};

/// What goes wrong inside the store, before the operation that it happened in is known.
#[derive(Debug)]
pub(crate) enum Fail {
    /// PostgreSQL, or its driver.
    Driver(sqlx::Error),
    /// Something that is already said in our words.
    Ours(Error),
}

/// The result of a step on one connection.
pub(crate) type Step<T> = Result<T, Fail>;

impl From<sqlx::Error> for Fail {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<serde_json::Error> for Fail {
    fn from(error: serde_json::Error) -> Self {
        Self::Ours(Error::corrupt(format!("a document in the database can't be read: {error}")))
    }
}

impl From<Fail> for Error {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Ours(error) => error,
            Fail::Driver(error) => from_driver(&error),
        }
    }
}

impl Fail {
    /// The five characters by which PostgreSQL names an error.
    fn code(&self) -> Option<String> {
        match self {
            Self::Driver(sqlx::Error::Database(error)) => error.code().map(Cow::into_owned),
            _ => None,
        }
    }

    /// Whether the server undid the step because of what others did at the same time, so that it is
    /// right to try again at once: a deadlock, a serialization failure.
    pub(crate) fn is_collision(&self) -> bool {
        matches!(self.code().as_deref(), Some("40001" | "40P01"))
    }

    /// Whether a pooler has refused a new connection because of what its session was to be set to.
    pub(crate) fn is_of_pooler(&self) -> bool {
        match self {
            Self::Driver(sqlx::Error::Database(error)) => {
                error.code().as_deref() == Some("08P01") && error.message().contains("startup parameter")
            }
            _ => false,
        }
    }

    /// Whether a table, a column or an index was to be made that is there already.
    pub(crate) fn is_made_already(&self) -> bool {
        matches!(self.code().as_deref(), Some("42P07" | "42701" | "42710"))
    }

    /// Whether a row was to be inserted that is there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.code().as_deref() == Some("23505")
    }

    /// Whether a row holds what can't be read, and not the database that can't be reached.
    pub(crate) fn is_corrupt(&self) -> bool {
        match self {
            Self::Ours(error) => error.kind() == ErrorKind::Corrupt,
            Self::Driver(error) => matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)),
        }
    }

    /// Whether the connection goes on after this error: the server has answered, and we have read it all.
    pub(crate) fn spares_connection(&self) -> bool {
        match self {
            Self::Ours(_) => true,
            // The server shuts down, somebody ended the session, or the primary has become a replica.
            Self::Driver(sqlx::Error::Database(error)) => !error
                .code()
                .is_some_and(|code| code.starts_with("57P") || code == "25P03" || code == "25006"),
            Self::Driver(error) => {
                matches!(error, sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. })
            }
        }
    }

    /// The error of a call on a store that was open before: what an administrator can mend without a
    /// restart of this program may pass.
    pub(crate) fn while_open(self) -> Error {
        let passes = matches!(self.code().as_deref(), Some("28000" | "28P01" | "3D000" | "42501" | "42P01"));
        let error = Error::from(self);
        if passes { Error::unavailable(error.message()).caused_by(error) } else { error }
    }
}

fn from_driver(error: &sqlx::Error) -> Error {
    if let sqlx::Error::Database(database) = error {
        let code = database.code().unwrap_or_default().into_owned();
        let (kind, message) = named(&code, database.message());
        return Error::new(kind, message);
    }
    if let sqlx::Error::Io(io) = error
        && io.to_string().contains("certificate")
    {
        let advice =
            "check the host's name in the URL, and that `sslrootcert` names who has signed the certificate";
        return Error::new(ErrorKind::Invalid, format!("the server is not who it should be: {io}; {advice}"));
    }
    let kind = match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Protocol(_) => ErrorKind::Unavailable,
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => ErrorKind::Invalid,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => ErrorKind::Corrupt,
        _ => ErrorKind::Internal,
    };
    let message = match kind {
        ErrorKind::Unavailable => {
            format!("the server can't be reached, or has closed the connection: {error}")
        }
        ErrorKind::Corrupt => "a row in the database holds a value that can't be read".to_owned(),
        ErrorKind::Invalid => format!("the connection can't be made as the URL asks: {error}"),
        _ => format!("the database driver: {error}"),
    };
    // The driver's own message is in ours; what is below it tells more.
    let deeper = error.source().map(ToString::to_string).filter(|deeper| !message.contains(deeper.as_str()));
    match deeper {
        Some(deeper) => Error::new(kind, format!("{message}: {deeper}")),
        None => Error::new(kind, message),
    }
}

/// What an error of the server comes to (PostgreSQL manual, appendix A).
fn named(code: &str, said: &str) -> (ErrorKind, String) {
    let text = |advice: &str| format!("{said}; {advice}");
    match code {
        "28P01" | "28000" => {
            (ErrorKind::Invalid, text("check the user and the password, and the server's pg_hba.conf"))
        }
        "3D000" => (ErrorKind::Invalid, text("create it with `createdb`, or correct the URL")),
        "42501" => (
            ErrorKind::Invalid,
            text("grant the user CREATE on the database, or make it the owner of the scheduler's schema"),
        ),
        "26000" | "42P05" | "08P01" => (
            ErrorKind::Invalid,
            text("through a pooler in transaction mode, add `?statement_cache=0` to the URL"),
        ),
        "25006" => {
            (ErrorKind::Unavailable, text("this is a replica or read-only; connect to the primary server"))
        }
        "40001" | "40P01" => (ErrorKind::Unavailable, text("others wrote the same rows at the same time")),
        "55P03" => (ErrorKind::Unavailable, text("another session has held a lock for too long")),
        "57014" => (ErrorKind::Unavailable, text("the server was too slow")),
        "42P01" | "3F000" => {
            (ErrorKind::Corrupt, text("somebody has removed tables of the scheduler while it ran"))
        }
        "22021" | "22P05" => {
            (ErrorKind::Invalid, "a text holds the character U+0000, which PostgreSQL can't store".to_owned())
        }
        "54000" | "22001" => (ErrorKind::Invalid, said.to_owned()),
        _ => match code.get(..2) {
            Some("08" | "53" | "57" | "58") => (ErrorKind::Unavailable, said.to_owned()),
            Some("XX") => (ErrorKind::Corrupt, text("the server reports damage; look into its log")),
            _ => (ErrorKind::Internal, format!("a statement failed: {said} ({code})")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_the_server_has_a_kind_to_act_on() {
        for code in ["40P01", "55P03", "53300", "57P01", "08006", "25006", "57014"] {
            assert_eq!(named(code, "x").0, ErrorKind::Unavailable, "{code}");
        }
        for code in ["28P01", "3D000", "42501", "22021", "26000", "08P01"] {
            assert_eq!(named(code, "x").0, ErrorKind::Invalid, "{code}");
        }
        assert_eq!(named("42601", "syntax").0, ErrorKind::Internal);
    }

    #[test]
    fn a_lost_connection_may_pass() {
        let error = sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(Error::from(Fail::from(error)).is_retryable());
    }
}
