//! Where errors of the driver become ours: the one place.

use mongodb::error::ErrorKind as Driver;
use unified_scheduler_core::{Error, ErrorKind};

/// What goes wrong inside the store, before the operation that it happened in is known.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The server, or the driver.
    Driver(mongodb::error::Error),
    /// Something that is already said in our words.
    Ours(Error),
}

/// The result of a step.
pub(crate) type Step<T> = Result<T, Fail>;

impl From<mongodb::error::Error> for Fail {
    fn from(error: mongodb::error::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl From<bson::error::Error> for Fail {
    fn from(error: bson::error::Error) -> Self {
        Self::Ours(Error::invalid(format!("a value can't be stored as BSON: {error}")))
    }
}

impl From<serde_json::Error> for Fail {
    fn from(error: serde_json::Error) -> Self {
        Self::Ours(Error::internal(format!("a value can't be written as JSON: {error}")))
    }
}

impl From<Fail> for Error {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Ours(error) => error,
            Fail::Driver(error) => from_driver(error),
        }
    }
}

impl Fail {
    /// The server's number for what went wrong, if it was the server that said so.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            Self::Driver(error) => match error.kind.as_ref() {
                Driver::Command(command) => Some(command.code),
                _ => None,
            },
            Self::Ours(_) => None,
        }
    }
}

/// The server's number for a key that exists already.
pub(crate) const DUPLICATE_KEY: i32 = 11000;

/// What an error of a command means for the caller, by the server's number.
pub(crate) fn of_code(code: i32, message: &str) -> Error {
    let (kind, text) = match code {
        18 => (ErrorKind::Invalid, "the user or the password is wrong".to_owned()),
        13 if message.contains("requires authentication") => (
            ErrorKind::Invalid,
            "the server asks for a user and a password; write mongodb://USER:PASSWORD@host/…".to_owned(),
        ),
        13 => (
            ErrorKind::Unavailable,
            "the user has no right to do that; give it the role `readWrite` on the database".to_owned(),
        ),
        // Not primary, shutting down, stepping down, interrupted, exceeded time, write concern not reached.
        91 | 189 | 10107 | 10058 | 11600 | 11602 | 13435 | 13436 | 50 | 64 | 262 | 89 | 6 | 7 | 9001
        | 133 | 134 | 112 | 46 | 79 => {
            (ErrorKind::Unavailable, format!("the server can't do that now: {message}"))
        }
        14031 => (ErrorKind::Unavailable, "the server's disk is full; free some space".to_owned()),
        10334 | 17280 | 17419 | 17420 => {
            (ErrorKind::Invalid, "a document is larger than the server takes".to_owned())
        }
        52 | 55 | 56 | 57 => {
            (ErrorKind::Invalid, format!("a name of a field is not one that this server stores: {message}"))
        }
        // A field within what is no document; an operator on another type.
        28 | 2 | 14 => (ErrorKind::Invalid, format!("the document does not take the change: {message}")),
        _ => (ErrorKind::Internal, format!("a command failed with {code}: {message}")),
    };
    Error::new(kind, text)
}

fn from_driver(error: mongodb::error::Error) -> Error {
    let (kind, message) = match error.kind.as_ref() {
        Driver::Authentication { .. } => {
            (ErrorKind::Invalid, "the user or the password is wrong, or the authentication source is another")
        }
        Driver::InvalidArgument { .. } => (ErrorKind::Invalid, "the driver refuses a setting or a value"),
        Driver::InvalidTlsConfig { .. } => (ErrorKind::Invalid, "the TLS settings can't be used"),
        Driver::Command(command) => {
            return of_code(command.code, &command.message).caused_by(error);
        }
        Driver::ServerSelection { .. } | Driver::DnsResolve { .. } => {
            (ErrorKind::Unavailable, "no server can be reached; check the hosts and that one is primary")
        }
        Driver::Io(_) | Driver::ConnectionPoolCleared { .. } | Driver::MissingResumeToken => {
            (ErrorKind::Unavailable, "the connection to the server was lost")
        }
        Driver::Shutdown => (ErrorKind::Stopped, "the store is closed"),
        Driver::IncompatibleServer { .. } => {
            (ErrorKind::Unsupported, "the server is too old; it must be 4.4 or later")
        }
        Driver::BsonSerialization(_) | Driver::Bson(_) => {
            (ErrorKind::Invalid, "a value can't be stored as BSON")
        }
        Driver::BsonDeserialization(_) | Driver::InvalidResponse { .. } => {
            (ErrorKind::Corrupt, "an answer of the server can't be read")
        }
        _ => return Error::internal(format!("the driver: {error}")).caused_by(error),
    };
    let (kind, message) = match kind {
        ErrorKind::Unavailable => reason_inside(&error.to_string()).unwrap_or((kind, message)),
        _ => (kind, message),
    };
    Error::new(kind, message).caused_by(error)
}

/// Whatever fails while connecting reaches the caller as no server to select, with the reason inside.
fn reason_inside(told: &str) -> Option<(ErrorKind, &'static str)> {
    if told.contains("SCRAM failure") {
        let why = "the user or the password is wrong, or the authentication source is another";
        return Some((ErrorKind::Invalid, why));
    }
    if told.contains("invalid peer certificate") {
        let why = "the server's certificate is not trusted; name its authority with `tlsCAFile=FILE`, and the \
                   host as the certificate does";
        return Some((ErrorKind::Invalid, why));
    }
    if told.contains("unexpected end of file") || told.contains("Connection reset") {
        let why = "the server closes the connection; when it asks for TLS, add `tls=true` to the URL";
        return Some((ErrorKind::Unavailable, why));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_does_not() {
        for code in [10107, 11600, 91, 64, 50] {
            assert_eq!(of_code(code, "x").kind(), ErrorKind::Unavailable, "{code}");
        }
        assert_eq!(of_code(18, "x").kind(), ErrorKind::Invalid);
        assert_eq!(of_code(28, "x").kind(), ErrorKind::Invalid);
        assert_eq!(of_code(8000, "x").kind(), ErrorKind::Internal);
    }
}
