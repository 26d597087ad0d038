//! Where errors of the driver become ours: the one place.

use rusqlite::ErrorCode;
use unified_scheduler_core::{Error, ErrorKind};

/// What goes wrong inside the store, before the operation that it happened in is known.
#[derive(Debug)]
pub(crate) enum Fail {
    /// SQLite, or its driver.
    Driver(rusqlite::Error),
    /// Something that is already said in our words.
    Ours(Error),
}

/// The result of a step on one connection.
pub(crate) type Step<T> = Result<T, Fail>;

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
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
        Self::Ours(Error::corrupt(format!("a document in the file can't be read: {error}")))
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
    /// Whether one row holds what can't be read, such as a word of a newer version.
    pub(crate) fn is_unreadable(&self) -> bool {
        match self {
            Self::Ours(error) => error.kind() == ErrorKind::Corrupt,
            Self::Driver(error) => error.sqlite_error_code().is_none() && is_conversion(error),
        }
    }

    /// Whether another connection holds the lock that was wanted.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Driver(error) if is_busy(error))
    }
}

/// Whether another connection holds the lock that was wanted.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}

/// The same error once more, for each of those whose work was in one transaction.
pub(crate) fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.message())
}

/// Whether a column holds another kind of value than was asked for.
fn is_conversion(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

fn from_driver(error: rusqlite::Error) -> Error {
    let Some(code) = error.sqlite_error_code() else {
        return if is_conversion(&error) {
            Error::corrupt("a row in the file holds a value that can't be read").caused_by(error)
        } else {
            Error::internal(format!("the database driver: {error}")).caused_by(error)
        };
    };
    let (kind, message) = match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            (ErrorKind::Unavailable, "another process has held the write lock of the file for too long")
        }
        ErrorCode::DiskFull => (ErrorKind::Unavailable, "the disk is full; free some space"),
        ErrorCode::ReadOnly => (
            ErrorKind::Unavailable,
            "the file can't be written; give this user write permission on it and on its directory",
        ),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            (ErrorKind::Unavailable, "the file can't be opened; check its path and permissions")
        }
        ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory | ErrorCode::OperationInterrupted => {
            (ErrorKind::Unavailable, "the operating system could not read or write the file")
        }
        ErrorCode::NotADatabase => {
            (ErrorKind::Invalid, "the file is not an SQLite database; give the path of another file")
        }
        ErrorCode::DatabaseCorrupt => (
            ErrorKind::Corrupt,
            "the file is damaged; restore it from a backup, or rescue what can be read with \
             `sqlite3 FILE .recover`",
        ),
        ErrorCode::TooBig => (ErrorKind::Invalid, "a value is larger than the database takes"),
        _ => (ErrorKind::Internal, "a statement failed"),
    };
    let message =
        if kind == ErrorKind::Internal { format!("{message}: {error}") } else { message.to_owned() };
    Error::new(kind, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn kind_of(code: std::ffi::c_int) -> ErrorKind {
        Error::from(Fail::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))).kind()
    }

    #[test]
    fn each_failure_of_sqlite_has_a_kind_to_act_on() {
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_FULL, ffi::SQLITE_READONLY, ffi::SQLITE_IOERR] {
            assert_eq!(kind_of(code), ErrorKind::Unavailable, "{code}");
        }
        assert_eq!(kind_of(ffi::SQLITE_NOTADB), ErrorKind::Invalid);
        assert_eq!(kind_of(ffi::SQLITE_CORRUPT), ErrorKind::Corrupt);
        assert_eq!(kind_of(ffi::SQLITE_MISUSE), ErrorKind::Internal);
    }
}
