//! The one error type of the workspace.
//!
//! [`ErrorKind`] and [`Error::is_retryable`] are contract; messages are not. A lost race is never an
//! error: the verbs of the store answer it with an outcome.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was given is wrong: [`Error::faults`] says what, where and how to mend it.
    Invalid,
    /// No such job, execution, calendar or node.
    NotFound,
    /// It exists already, or has changed since it was read.
    Conflict,
    /// The store can't be reached or can't answer now. The only kind worth repeating.
    Unavailable,
    /// What the store holds can't be read as what it should be.
    Corrupt,
    /// This store, build or configuration can't do that.
    Unsupported,
    /// The scheduler is stopping or stopped.
    Stopped,
    /// A defect of ours.
    Internal,
}

impl ErrorKind {
    /// Every kind, for bindings that map them one by one.
    pub const ALL: &'static [ErrorKind] = &[
        Self::Invalid,
        Self::NotFound,
        Self::Conflict,
        Self::Unavailable,
        Self::Corrupt,
        Self::Unsupported,
        Self::Stopped,
        Self::Internal,
    ];

    /// The kind's name as it stands in JSON: `invalid`, `not_found`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::Stopped => "stopped",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing wrong with a definition: which field, where in it, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Path of the field in the document, such as `schedule.expression`.
    pub field: String,
    /// Where in the field's text the fault begins: a byte offset, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// How to mend it; empty when the message says it already.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}

impl Fault {
    /// A fault of `field` without a position.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), position: None, message: message.into(), help: String::new() }
    }

    /// The same fault at byte `position` of the field's text.
    #[must_use]
    pub fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// The same fault with a way to mend it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// The same fault, its field found under `parent`.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.field =
            if self.field.is_empty() { parent.to_owned() } else { format!("{parent}.{}", self.field) };
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        if let Some(position) = self.position {
            write!(f, " (at character {})", position + 1)?;
        }
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

/// What went wrong, of which kind, during which operation, with what in hand.
///
/// Cheap to move. Never holds parameters, secrets or passwords.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    operation: &'static str,
    context: Vec<(&'static str, String)>,
    faults: Vec<Fault>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result with our [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`; `message` is lower case, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            operation: "",
            context: Vec::new(),
            faults: Vec::new(),
            source: None,
        }))
    }

    /// [`ErrorKind::Invalid`] with a message.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// [`ErrorKind::Invalid`] with the list of what is wrong.
    pub fn faults_of(what: impl Into<String>, faults: Vec<Fault>) -> Self {
        let mut error = Self::new(ErrorKind::Invalid, what);
        error.0.faults = faults;
        error
    }

    /// [`ErrorKind::NotFound`]: there is no `what` called `id`.
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("no {what} `{id}`"))
    }

    /// [`ErrorKind::Conflict`] with a message.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::Unavailable`] with a message.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// [`ErrorKind::Corrupt`] with a message.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// [`ErrorKind::Unsupported`] with a message.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// [`ErrorKind::Stopped`] with a message.
    pub fn stopped(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Stopped, message)
    }

    /// [`ErrorKind::Internal`] with a message.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error, naming the operation that failed.
    #[must_use]
    pub fn during(mut self, operation: &'static str) -> Self {
        self.0.operation = operation;
        self
    }

    /// The same error with one more thing in hand. Ids, never parameters or secrets.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without operation, context and faults.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What is wrong with a definition; empty for the other kinds.
    pub fn faults(&self) -> &[Fault] {
        &self.0.faults
    }

    /// Whether the same call may do later what it could not do now.
    pub fn is_retryable(&self) -> bool {
        self.0.kind == ErrorKind::Unavailable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { message, operation, context, faults, source, .. } = &*self.0;
        if !operation.is_empty() {
            write!(f, "{operation}: ")?;
        }
        f.write_str(message)?;
        for (i, (key, value)) in context.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { " (" } else { ", " })?;
        }
        if !context.is_empty() {
            f.write_str(")")?;
        }
        for (i, fault) in faults.iter().enumerate() {
            write!(f, "{}{fault}", if i == 0 { ": " } else { "; " })?;
        }
        if let Some(source) = source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_where_and_how_to_mend_it() {
        let error = Error::faults_of(
            "the job can't be stored",
            vec![Fault::new("expression", "hour 25 is above 23").at(2).help("use 0 to 23").under("schedule")],
        )
        .during("create job")
        .with("name", "nightly");
        assert_eq!(
            error.to_string(),
            "create job: the job can't be stored (name=nightly): schedule.expression: hour 25 is above 23 (at character 3); use 0 to 23"
        );
    }

    #[test]
    fn only_unavailable_is_worth_repeating() {
        for kind in ErrorKind::ALL {
            assert_eq!(Error::new(*kind, "x").is_retryable(), *kind == ErrorKind::Unavailable);
        }
    }
}
