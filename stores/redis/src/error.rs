//! Where errors of the driver become ours: the one place.

use redis::{ErrorKind as DriverKind, RedisError, ServerErrorKind};
use unified_scheduler_core::{Error, ErrorKind};

/// The error of a call that failed.
pub(crate) fn from_driver(error: RedisError) -> Error {
    let (kind, message) = said(&error);
    // What the driver says may quote a command; only what the server says of itself is kept.
    drop(error);
    Error::new(kind, message)
}

fn said(error: &RedisError) -> (ErrorKind, String) {
    let code = error.code().unwrap_or_default();
    let (kind, text) = match (error.kind(), code) {
        (_, "OOM") => (
            ErrorKind::Unavailable,
            "the server has reached its `maxmemory` and takes no writes; raise it, or keep less history",
        ),
        (_, "MISCONF") => (
            ErrorKind::Unavailable,
            "the server can't save to its disk and takes no writes; see its log, and free some space",
        ),
        (_, "NOREPLICAS") => (
            ErrorKind::Unavailable,
            "the server has fewer replicas than its `min-replicas-to-write` and takes no writes",
        ),
        (_, "WRONGTYPE") => (
            ErrorKind::Corrupt,
            "a key of this namespace holds something else than it should; does another program use its prefix?",
        ),
        (_, "BUSY") => (ErrorKind::Unavailable, "the server is busy with a script of somebody else"),
        (DriverKind::AuthenticationFailed, _) | (_, "WRONGPASS" | "NOAUTH") => {
            (ErrorKind::Invalid, "the server refuses the user name or password; check them in the URL")
        }
        (DriverKind::Server(ServerErrorKind::NoPerm), _) => (
            ErrorKind::Invalid,
            "this user lacks a right on the server; allow it the keys and channels of its namespace, and \
             scripts",
        ),
        (DriverKind::InvalidClientConfig, _) => {
            (ErrorKind::Invalid, "the driver can't use this URL; check host, port, database and scheme")
        }
        (DriverKind::Server(kind), _) => return from_server(kind, error),
        (DriverKind::ClusterConnectionNotFound, _) => {
            (ErrorKind::Unavailable, "no node of the cluster can be reached")
        }
        (DriverKind::Io, _) if error.to_string().contains("ertificate") => (
            ErrorKind::Invalid,
            "the server and this client do not trust each other's certificates; name the authority that signed \
             the server's with `tls_ca_file`, and where the server asks for a certificate, ours with \
             `tls_cert_file` and `tls_key_file`",
        ),
        (DriverKind::Io, _) if error.is_timeout() => {
            (ErrorKind::Unavailable, "the server did not answer in time")
        }
        (DriverKind::Io, _) => (ErrorKind::Unavailable, "the server can't be reached"),
        (DriverKind::UnexpectedReturnType | DriverKind::Parse, _) => {
            (ErrorKind::Corrupt, "the server's answer can't be read")
        }
        (DriverKind::Extension, _) => (ErrorKind::Internal, "the server refuses a command"),
        _ => (ErrorKind::Unavailable, "the connection can't be used"),
    };
    match error.kind() {
        DriverKind::Io => (kind, format!("{text}: {error}")),
        DriverKind::Extension if kind == ErrorKind::Internal => (kind, format!("{text}: {code}")),
        _ => (kind, text.to_owned()),
    }
}

fn from_server(kind: ServerErrorKind, error: &RedisError) -> (ErrorKind, String) {
    use ServerErrorKind as S;
    let text = match kind {
        S::BusyLoading => "the server is loading its data",
        S::ReadOnly => "the server is a replica, which takes no writes; give the address of the primary",
        S::Moved | S::Ask | S::TryAgain => "the cluster is moving its slots",
        S::ClusterDown | S::MasterDown => "the cluster is down, or this part of it has no primary",
        S::NoScript => "the server has forgotten a script; the next call brings it again",
        _ => {
            let detail = error.detail().unwrap_or_default();
            let text = "a script or command failed";
            return (ErrorKind::Internal, format!("{text}: {} {detail}", error.code().unwrap_or_default()));
        }
    };
    (ErrorKind::Unavailable, text.to_owned())
}

/// An answer that is not what the script gives.
pub(crate) fn odd(what: &str) -> Error {
    Error::corrupt(format!("the server's answer holds no {what} where one should be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(code: &str) -> ErrorKind {
        let error = redis::make_extension_error(code.to_owned(), Some("detail".to_owned()));
        from_driver(error).kind()
    }

    #[test]
    fn what_may_pass_is_unavailable_and_says_why() {
        for code in ["OOM", "MISCONF", "BUSY", "NOREPLICAS"] {
            assert_eq!(kind_of(code), ErrorKind::Unavailable, "{code}");
        }
        for kind in [
            ServerErrorKind::BusyLoading,
            ServerErrorKind::ReadOnly,
            ServerErrorKind::Moved,
            ServerErrorKind::ClusterDown,
            ServerErrorKind::TryAgain,
        ] {
            let error = RedisError::from((DriverKind::Server(kind), "text"));
            assert_eq!(from_driver(error).kind(), ErrorKind::Unavailable, "{kind:?}");
        }
        assert_eq!(kind_of("WRONGPASS"), ErrorKind::Invalid);
        assert_eq!(kind_of("STRANGE"), ErrorKind::Internal);
    }
}
