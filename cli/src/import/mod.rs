//! `jobs import`: many jobs from a file, all of them or none.

mod check;
mod crontab;
mod json;
mod lines;
mod store;
mod yaml;

use std::io::Read as _;

use clap::{Args, ValueEnum};
use serde_json::Value;
use unified_scheduler::{Fault, NewJob, Timestamp, document};

use crate::app::App;
use crate::exit::{Answer, Failure, Problem};
use crate::output::count;
use crate::registry;

/// Larger files are mistakes.
const LARGEST: u64 = 1 << 30;

/// Where jobs come from, and what happens to those that are there.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A file of jobs: JSON (an array, one document, {"jobs": […]}, or one document a line), YAML, or with
    /// --crontab a crontab; `-` is the standard input
    file: String,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// What happens when the id or name of a job is in use: everything is refused, the stored job stays, or
    /// it gets the definition in the file. Nothing is stored unless everything can be; with `replace`, new
    /// jobs come first, all together, then each replaced one
    #[arg(long, value_enum, default_value_t = OnConflict::Refuse, value_name = "WHAT")]
    on_conflict: OnConflict,
    /// Take templates and parameters that this program does not know: other programs have the handlers
    #[arg(long)]
    unchecked: bool,
    /// Make all of them disabled
    #[arg(long)]
    disabled: bool,
    #[command(flatten)]
    crontab: crontab::CrontabArgs,
}

/// What happens to a job whose id or name is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnConflict {
    Refuse,
    Skip,
    Replace,
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

/// A job to be made, as one entry of a file says.
pub(super) struct Candidate {
    pub(super) line: usize,
    pub(super) new: NewJob,
}

/// What a file holds.
#[derive(Default)]
pub(super) struct Found {
    pub(super) candidates: Vec<Candidate>,
    pub(super) problems: Vec<Problem>,
    /// What was understood, but should be seen, with its line.
    pub(super) warnings: Vec<(usize, String)>,
}

pub(crate) async fn run(app: &App, args: ImportArgs) -> Result<Answer, Failure> {
    let text = read_text(&args.file)?;
    let mut found = if args.crontab.is_asked_for() {
        crontab::read(&text, &args.crontab)
    } else {
        documents(&entries(&text, &args.file)?, app.now().await?)
    };
    if args.disabled {
        found.candidates.iter_mut().for_each(|candidate| candidate.new.enabled = false);
    }
    let registry = if args.unchecked { None } else { Some(registry::known(&app.config)?) };
    check::definitions(&mut found, registry.as_deref());
    check::duplicates(&mut found);
    let actions = check::against_store(app, &mut found, args.on_conflict).await?;
    if !found.problems.is_empty() {
        found.problems.sort_by_key(|problem| problem.line);
        let problems = count(found.problems.len(), "problem");
        let message = format!("`{}` has {problems}; nothing was stored", args.file);
        return Err(Failure::File { message, problems: found.problems });
    }
    registry::warn_of_disabled(
        &app.config,
        found.candidates.iter().map(|candidate| candidate.new.definition.handler.as_str()),
    );
    store::apply(app, found, actions, args.dry_run).await
}

/// The jobs that documents describe.
fn documents(entries: &[Entry], now: Timestamp) -> Found {
    let mut found = Found::default();
    for Entry { line, value } in entries {
        let line = *line;
        let read = match value {
            Ok(value) => document::read(value),
            Err(fault) => Err(vec![fault.clone()]),
        };
        match read {
            Ok(document) => {
                let new = NewJob {
                    id: document.id.clone(),
                    enabled: document.enabled,
                    first_due: document.due_at(now),
                    definition: document.definition,
                };
                found.warnings.extend(document.warnings.into_iter().map(|text| (line, text)));
                found.candidates.push(Candidate { line, new });
            }
            Err(faults) => {
                let name = value.as_ref().ok().and_then(|v| v.get("name")).and_then(Value::as_str);
                found.problems.extend(faults.into_iter().map(|fault| Problem::new(line, name, fault)));
            }
        }
    }
    found
}
