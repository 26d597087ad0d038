//! How the program ends: its exit code, and what it says on the way out.

use std::io::{self, Write as _};

use serde_json::json;
use unified_scheduler::{Error, ErrorKind, Fault};

/// The answer is no.
pub(crate) const NO: u8 = 1;
/// Bad usage or bad input.
pub(crate) const BAD_INPUT: u8 = 2;
/// The store can't be reached, or can't be read.
pub(crate) const NO_STORE: u8 = 3;
/// A defect of ours (`EX_SOFTWARE` of sysexits.h).
pub(crate) const DEFECT: u8 = 70;

/// How a command that did its work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Well.
    Yes,
    /// The question was answered with no, which was shown.
    No,
    /// Otherwise, such as by a second signal.
    Code(u8),
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was given can't be used.
    Input { message: String, faults: Vec<Fault> },
    /// What the scheduler says.
    Scheduler(Error),
    /// Whoever read our output has gone, and wants no more.
    BrokenPipe,
}

impl Failure {
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input { message: message.into(), faults: Vec::new() }
    }

    pub(crate) fn faults(message: impl Into<String>, faults: Vec<Fault>) -> Self {
        Self::Input { message: message.into(), faults }
    }

    /// From a failed write to the standard output.
    pub(crate) fn from_output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::input(format!("the output can't be written: {error}"))
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Input { .. } => BAD_INPUT,
            Self::Scheduler(error) => match error.kind() {
                ErrorKind::Conflict => NO,
                ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Unsupported => BAD_INPUT,
                ErrorKind::Unavailable | ErrorKind::Corrupt | ErrorKind::Stopped => NO_STORE,
                _ => DEFECT,
            },
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Scheduler(error) => error.kind().as_str(),
            _ => ErrorKind::Invalid.as_str(),
        }
    }

    /// What went wrong in one line, and everything wrong with what was given.
    fn parts(&self) -> (String, &[Fault]) {
        match self {
            Self::Input { message, faults } => (message.clone(), faults),
            // The message with its operation and context; the faults have lines of their own.
            Self::Scheduler(error) if error.faults().is_empty() => (error.to_string(), &[]),
            Self::Scheduler(error) => (error.message().to_owned(), error.faults()),
            Self::BrokenPipe => ("the reader of the output has gone".to_owned(), &[]),
        }
    }

    /// Tells a person, or a program, on the standard error.
    pub(crate) fn report(&self, json: bool) {
        let (message, faults) = self.parts();
        let mut text = String::new();
        if json {
            let error = json!({"error": {"kind": self.kind(), "message": message, "faults": faults}});
            text = format!("{error}\n");
        } else {
            text.push_str(&format_error(&message, faults));
        }
        // Nobody is left to be told that this failed.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

fn format_error(message: &str, faults: &[Fault]) -> String {
    let mut text = format!("error: {message}\n");
    for fault in faults {
        text.push_str("  ");
        text.push_str(&crate::output::clean(&fault.to_string()));
        text.push('\n');
    }
    text
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Scheduler(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_code() {
        for (kind, code) in [
            (ErrorKind::Invalid, BAD_INPUT),
            (ErrorKind::NotFound, BAD_INPUT),
            (ErrorKind::Conflict, NO),
            (ErrorKind::Unavailable, NO_STORE),
            (ErrorKind::Corrupt, NO_STORE),
            (ErrorKind::Internal, DEFECT),
        ] {
            assert_eq!(Failure::from(Error::new(kind, "x")).code(), code, "{kind}");
        }
    }

    #[test]
    fn each_fault_has_a_line() {
        let text = format_error("no", &[Fault::new("a", "is bad").at(2), Fault::new("b", "too")]);
        assert_eq!(text, "error: no\n  a: is bad (at character 3)\n  b: too\n");
    }
}
