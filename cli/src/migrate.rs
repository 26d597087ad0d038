//! `migrate`: the schema of a store, or everything in it to another store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use unified_scheduler::Store;
use unified_scheduler::sqlite::SqliteConfig;
use unified_scheduler::transfer::{TransferOptions, TransferReport, transfer};

use crate::app::{App, actor, open};
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::progress::Progress;
use crate::output::{clean, count};

/// What to move.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Move everything from this store ...
    #[arg(long, value_name = "URL", requires = "to")]
    from: Option<String>,
    /// ... to this one; what is there already stays, and a move that was cut off goes on
    #[arg(long, value_name = "URL", requires = "from")]
    to: Option<String>,
    /// Move only jobs, calendars and what is pending, and leave the history behind
    #[arg(long, requires = "from")]
    without_history: bool,
    /// Allow the new store to hold other jobs already
    #[arg(long, requires = "from")]
    merge: bool,
}

pub(crate) async fn run(app: &App, args: MigrateArgs) -> Result<Answer, Failure> {
    let (Some(from), Some(to)) = (&args.from, &args.to) else { return schema(app).await };
    if location(from) == location(to) {
        return Err(Failure::input("`--from` and `--to` are the same store"));
    }
    if let Some(file) = file(from)
        && !file.exists()
    {
        // Opening it would make it.
        return Err(Failure::input(format!("the store of `--from`, {}, does not exist", file.display())));
    }
    let from = open(from).await?;
    let answer = match open(to).await {
        Ok(to) => {
            let options =
                TransferOptions { history: !args.without_history, actor: actor(), merge: args.merge };
            let answer = move_all(app, &from, &to, &options).await;
            close(&to).await;
            answer
        }
        Err(failure) => Err(failure),
    };
    close(&from).await;
    answer
}

/// The file of an SQLite store.
fn file(url: &str) -> Option<PathBuf> {
    SqliteConfig::from_url(url).ok()?.file().map(Path::to_owned)
}

/// What two URLs of the same store have in common, as far as they show it.
fn location(url: &str) -> String {
    let (place, options) = url.split_once('?').unwrap_or((url, ""));
    match file(url).and_then(|file| file.canonicalize().ok()) {
        Some(file) => format!("sqlite:{}?{options}", file.display()),
        None => format!("{}?{options}", place.trim_end_matches('/')),
    }
}

async fn close(store: &Arc<dyn Store>) {
    if let Err(error) = store.close().await {
        tracing::warn!(%error, "a store could not be closed");
    }
}

async fn move_all(
    app: &App,
    from: &Arc<dyn Store>,
    to: &Arc<dyn Store>,
    options: &TransferOptions,
) -> Result<Answer, Failure> {
    let mut progress = Progress::new("moving rows");
    let report = transfer(&**from, &**to, options, |n| progress.done(n)).await?;
    drop(progress);
    let answer = if report.is_whole() { Answer::Yes } else { Answer::No };
    let location = to.describe().location;
    if app.out.json {
        let mut value = json!(report);
        value["whole"] = Value::Bool(report.is_whole());
        app.out.value(&value)?;
        return Ok(answer);
    }
    show(app, &report, &clean(&location))?;
    Ok(answer)
}

fn show(app: &App, report: &TransferReport, location: &str) -> Result<(), Failure> {
    let out = &app.out;
    out.line(format_args!(
        "{} ({} new), {} ({} new), {} are in {location}",
        count(report.jobs, "job"),
        report.jobs_added,
        count(report.executions, "execution"),
        report.executions_added,
        count(report.calendars, "calendar"),
    ))?;
    if report.is_whole() {
        out.line(out.paint.show(Style::Green, "each was read back and is the same"))?;
        return out
            .line("start your nodes on the new store, and none on the old one: both would run the jobs");
    }
    out.line(out.paint.show(Style::Red, "there, but otherwise than in the old store:"))?;
    report.differences.iter().try_for_each(|what| out.line(format_args!("  {}", clean(what))))
}

/// Opening a store brings its schema up to date; this only says so.
async fn schema(app: &App) -> Result<Answer, Failure> {
    let store = app.store().await?;
    let location = store.describe().location;
    let schema = store.diagnose().await?.into_iter().find(|check| check.name == "schema");
    let detail = schema.map(|check| check.detail);
    if app.out.json {
        app.out.value(&json!({"store": location, "up_to_date": true, "schema": detail}))?;
    } else {
        let detail = detail.map_or(String::new(), |detail| format!(" ({})", clean(&detail)));
        app.out.line(format_args!("the schema of {} is up to date{detail}", clean(&location)))?;
    }
    Ok(Answer::Yes)
}
