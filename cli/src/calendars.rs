//! `calendars`: days and hours on which jobs do not run, shared by name.

use clap::Subcommand;
use serde_json::json;
use unified_scheduler::schedule::Calendar;

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::import::{entries, read_text};
use crate::output::table::{Cell, Table};
use crate::output::{clean, count};

/// What can be done with calendars.
#[derive(Debug, Subcommand)]
pub(crate) enum CalendarsCommand {
    /// List calendars by name
    #[command(visible_alias = "ls")]
    List,
    /// Store calendars from a JSON or YAML file, each in place of one of the same name: all of them, or none
    Put {
        /// The file; `-` is the standard input
        file: String,
    },
    /// Remove a calendar; jobs that name it then run as if it were empty
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        name: String,
    },
}

pub(crate) async fn run(app: &App, command: CalendarsCommand) -> Result<Answer, Failure> {
    match command {
        CalendarsCommand::List => list(app).await,
        CalendarsCommand::Put { file } => put(app, &file).await,
        CalendarsCommand::Delete { name } => delete(app, &name).await,
    }
}

async fn list(app: &App) -> Result<Answer, Failure> {
    let calendars = app.store().await?.list_calendars().await?;
    if app.out.json {
        app.out.value(&calendars)?;
        return Ok(Answer::Yes);
    }
    if calendars.is_empty() {
        app.out.line("there is no calendar; store some with `unified-scheduler calendars put FILE`")?;
        return Ok(Answer::Yes);
    }
    let mut table = Table::new(&["calendar", "excludes", "zone", "description"]);
    for calendar in &calendars {
        let parts = [
            (calendar.dates.len(), "date"),
            (calendar.weekdays.len(), "weekday"),
            (calendar.windows.len(), "window"),
        ];
        let excludes: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(*n, what)).collect();
        table.row(vec![
            Cell::new(&calendar.name),
            Cell::new(excludes.join(", ")),
            Cell::new(calendar.timezone.as_deref().unwrap_or("of the job")),
            Cell::new(&calendar.description),
        ]);
    }
    table.write(&app.out)?;
    Ok(Answer::Yes)
}

async fn put(app: &App, file: &str) -> Result<Answer, Failure> {
    let mut calendars = Vec::new();
    let mut faults = Vec::new();
    for entry in entries(&read_text(file)?, file)? {
        let line = entry.line;
        let read = entry.value.map_err(|fault| vec![fault]).and_then(|value| {
            let calendar: Calendar = serde_json::from_value(value)
                .map_err(|e| vec![unified_scheduler::Fault::new("", e.to_string())])?;
            let faults = calendar.faults();
            if faults.is_empty() { Ok(calendar) } else { Err(faults) }
        });
        match read {
            Ok(calendar) => calendars.push(calendar),
            Err(found) => faults.extend(found.into_iter().map(|fault| fault.under(&format!("line {line}")))),
        }
    }
    if !faults.is_empty() {
        return Err(Failure::faults(format!("the calendars of `{file}` can't be stored"), faults));
    }
    let store = app.store().await?;
    for calendar in &calendars {
        store.put_calendar(calendar).await?;
    }
    if app.out.json {
        app.out.value(&json!({ "stored": calendars.len() }))?;
    } else {
        app.out.line(format_args!("stored {}", count(calendars.len(), "calendar")))?;
    }
    Ok(Answer::Yes)
}

async fn delete(app: &App, name: &str) -> Result<Answer, Failure> {
    let gone = app.store().await?.delete_calendar(name).await?;
    if !gone {
        return Err(Failure::Scheduler(unified_scheduler::Error::not_found("calendar", name)));
    }
    if app.out.json {
        app.out.value(&json!({ "removed": name }))?;
    } else {
        app.out.line(format_args!("removed `{}`", clean(name)))?;
    }
    Ok(Answer::Yes)
}
