//! How the program ends: its exit code, and what it says on the way out.

use std::io::{self, Write as _};

use serde::Serialize;
use serde_json::{Value, json};
use unified_scheduler::{Error, ErrorKind, Fault};

use crate::output::{clean, cut};

/// The answer is no.
pub(crate) const NO: u8 = 1;
/// Bad usage or bad input.
pub(crate) const BAD_INPUT: u8 = 2;
/// The store can't be opened, reached or read.
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
    /// What stands in a file can't be used.
    File { message: String, problems: Vec<Problem> },
    /// What the scheduler says.
    Scheduler(Error),
    /// The store can't be opened.
    Store(Error),
    /// Whoever read our output has gone, and wants no more.
    BrokenPipe,
}

/// What is wrong with one place of a file.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The character of the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
    /// The job that is described there, if that much is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The line itself, where it is short.
    #[serde(skip)]
    pub(crate) text: Option<String>,
    #[serde(flatten)]
    pub(crate) fault: Fault,
}

impl Problem {
    pub(crate) fn new(line: usize, name: Option<&str>, fault: Fault) -> Self {
        Self { line, column: None, name: name.map(str::to_owned), text: None, fault }
    }

    fn lines(&self) -> Vec<String> {
        let place = self.column.map_or_else(String::new, |column| format!(", column {column}"));
        let name = self.name.as_deref().map_or_else(String::new, |name| format!(" (`{}`)", cut(name, 60)));
        let mut lines = vec![format!("line {}{place}{name}: {}", self.line, self.fault)];
        if let (Some(text), Some(column)) = (&self.text, self.column) {
            // A tab as one space, so that the mark stands below its character.
            lines.push(format!("  {}", text.replace('\t', " ")));
            lines.push(format!("  {}^", " ".repeat(column.saturating_sub(1))));
        }
        lines
    }
}

impl Failure {
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input { message: message.into(), faults: Vec::new() }
    }

    pub(crate) fn faults(message: impl Into<String>, faults: Vec<Fault>) -> Self {
        Self::Input { message: message.into(), faults }
    }

    /// From a failed write to the standard output.
    pub(crate) fn from_output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::input(format!("the output can't be written: {error}"))
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Input { .. } | Self::File { .. } => BAD_INPUT,
            Self::Store(_) => NO_STORE,
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
            Self::Scheduler(error) | Self::Store(error) => error.kind().as_str(),
            _ => ErrorKind::Invalid.as_str(),
        }
    }

    /// What went wrong in one line, and everything wrong with what was given.
    fn parts(&self) -> (String, Value, Vec<String>) {
        let told = |faults: &[Fault]| (json!(faults), faults.iter().map(ToString::to_string).collect());
        match self {
            Self::Input { message, faults } => {
                let (value, lines) = told(faults);
                (message.clone(), value, lines)
            }
            Self::File { message, problems } => {
                (message.clone(), json!(problems), problems.iter().flat_map(Problem::lines).collect())
            }
            // The message with its operation and context; the faults have lines of their own.
            Self::Scheduler(error) | Self::Store(error) if error.faults().is_empty() => {
                (error.to_string(), json!([]), Vec::new())
            }
            Self::Scheduler(error) | Self::Store(error) => {
                let (value, lines) = told(error.faults());
                (error.message().to_owned(), value, lines)
            }
            Self::BrokenPipe => ("the reader of the output has gone".to_owned(), json!([]), Vec::new()),
        }
    }

    /// Tells a person, or a program, on the standard error.
    pub(crate) fn report(&self, json: bool) {
        let (message, faults, lines) = self.parts();
        let text = if json {
            format!("{}\n", json!({"error": {"kind": self.kind(), "message": message, "faults": faults}}))
        } else {
            format_error(&message, &lines)
        };
        // Nobody is left to be told that this failed.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

fn format_error(message: &str, lines: &[String]) -> String {
    let mut text = format!("error: {message}\n");
    for line in lines {
        text.push_str("  ");
        text.push_str(&clean(line));
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
        let failure = Failure::faults("no", vec![Fault::new("a", "is bad").at(2), Fault::new("b", "too")]);
        let (message, _, lines) = failure.parts();
        assert_eq!(format_error(&message, &lines), "error: no\n  a: is bad (at character 3)\n  b: too\n");
    }

    #[test]
    fn a_problem_shows_its_place() {
        let mut problem = Problem::new(3, None, Fault::new("", "is above 59"));
        (problem.column, problem.text) = (Some(3), Some("a\tb".to_owned()));
        assert_eq!(problem.lines(), ["line 3, column 3: is above 59", "  a b", "    ^"]);
        assert_eq!(Problem::new(1, Some("n"), Fault::new("a", "b")).lines(), ["line 1 (`n`): a: b"]);
    }
}
