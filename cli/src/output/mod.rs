//! What the program writes: lines and tables for people, JSON for programs.

pub(crate) mod color;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod time;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use serde::Serialize;

use crate::args::ColorChoice;
use crate::exit::Failure;
use color::Paint;

/// The standard output.
pub(crate) struct Out {
    writer: RefCell<BufWriter<Stdout>>,
    pub(crate) json: bool,
    pub(crate) paint: Paint,
}

impl Out {
    pub(crate) fn new(json: bool, color: ColorChoice) -> Self {
        let paint = Paint::new(color, io::stdout().is_terminal());
        Self { writer: RefCell::new(BufWriter::new(io::stdout())), json, paint }
    }

    /// Writes one line.
    pub(crate) fn line(&self, line: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.writer.borrow_mut(), "{line}").map_err(|e| Failure::from_output(&e))
    }

    /// Writes one JSON value: over several lines for a person, in one for a program.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = if io::stdout().is_terminal() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.line(text.map_err(|e| Failure::input(format!("the answer can't be written as JSON: {e}")))?)
    }

    /// Writes what is for people; nothing where JSON was asked for.
    pub(crate) fn say(&self, line: impl fmt::Display) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(line) }
    }

    pub(crate) fn flush(&self) -> Result<(), Failure> {
        self.writer.borrow_mut().flush().map_err(|e| Failure::from_output(&e))
    }
}

/// Tells a person something beside the answer, on the standard error.
pub(crate) fn note(text: impl fmt::Display) {
    // A note that can't be written is no reason to stop.
    let _ = writeln!(io::stderr(), "{text}");
}

/// A warning, on the standard error.
pub(crate) fn warn(text: impl fmt::Display) {
    note(format_args!("warning: {}", clean(&text.to_string())));
}

/// Text of others with what would move the cursor, color or ring made visible.
pub(crate) fn clean(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// `1 job`, `2 jobs`.
pub(crate) fn count(n: impl TryInto<u64>, what: &str) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The beginning of a text, in at most `width` characters.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_the_cursor_is_made_visible() {
        assert_eq!(clean("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(clean("grün"), "grün");
    }

    #[test]
    fn a_long_text_is_cut_with_a_mark() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
