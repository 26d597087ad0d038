//! `jobs import`: many jobs from a file, all of them or none.

mod json;
mod lines;
mod yaml;

use std::io::Read as _;

use clap::Args;
use serde_json::Value;
use unified_scheduler::Fault;

use crate::app::App;
use crate::exit::{Answer, Failure};

/// Larger files are mistakes.
const LARGEST: u64 = 1 << 30;

/// Where jobs come from.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A JSON or YAML file; `-` is the standard input
    file: String,
}

/// One document of a file.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The line on which it begins, from 1.
    pub(crate) line: usize,
    /// What it is; what is wrong with its form.
    pub(crate) value: Result<Value, Fault>,
}

/// The text of a file; `-` is the standard input.
pub(crate) fn read_text(path: &str) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::input(format!("`{path}` can't be read: {e}"));
    let mut bytes = Vec::new();
    if path == "-" {
        std::io::stdin().take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(path).and_then(|f| f.take(LARGEST).read_to_end(&mut bytes)).map_err(failed)?;
    }
    if bytes.len() as u64 >= LARGEST {
        return Err(Failure::input(format!("`{path}` is larger than a gigabyte")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::input(format!("`{path}` is not UTF-8 text (at byte {})", at + 1))
    })
}

/// The documents of a JSON or YAML text.
pub(crate) fn entries(text: &str, name: &str) -> Result<Vec<Entry>, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let yaml = [".yaml", ".yml"].iter().any(|end| name.to_ascii_lowercase().ends_with(end));
    // JSON begins with one of these; a YAML of that look is JSON too, or nearly.
    let looks_like_json = text.trim_start().starts_with(['[', '{']);
    let found = if yaml || !looks_like_json { yaml::entries(text) } else { json::entries(text) };
    found.map_err(|fault| Failure::faults(format!("`{name}` can't be read"), vec![fault]))
}

pub(crate) async fn run(_app: &App, _args: ImportArgs) -> Result<Answer, Failure> {
    Err(Failure::input("not there yet"))
}
