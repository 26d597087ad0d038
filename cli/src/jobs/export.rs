//! `jobs export`: documents that `jobs import` reads back as the same jobs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde_json::Value;
use unified_scheduler::store::{JobQuery, JobSort};
use unified_scheduler::{Job, document};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::progress::Progress;
use crate::output::{count, note};

const PAGE: usize = 500;

pub(crate) async fn export(
    app: &App,
    names: &[String],
    output: Option<PathBuf>,
    lines: bool,
) -> Result<Answer, Failure> {
    let jobs = if names.is_empty() { all(app).await? } else { named(app, names).await? };
    let documents: Vec<Value> = jobs.iter().map(document::export).collect();
    let text = render(&documents, lines)?;
    match output {
        Some(path) => {
            let failed =
                |e: std::io::Error| Failure::input(format!("`{}` can't be written: {e}", path.display()));
            let mut file = BufWriter::new(File::create(&path).map_err(failed)?);
            file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(failed)?;
            note(format_args!("{} written to {}", count(documents.len(), "job"), path.display()));
        }
        None => app.out.line(text.trim_end())?,
    }
    Ok(Answer::Yes)
}

fn render(documents: &[Value], lines: bool) -> Result<String, Failure> {
    let failed = |e: serde_json::Error| Failure::input(format!("a job can't be written as JSON: {e}"));
    if !lines {
        return serde_json::to_string_pretty(documents).map(|text| text + "\n").map_err(failed);
    }
    let mut text = String::new();
    for document in documents {
        text.push_str(&serde_json::to_string(document).map_err(failed)?);
        text.push('\n');
    }
    Ok(text)
}

async fn named(app: &App, names: &[String]) -> Result<Vec<Job>, Failure> {
    let jobs = app.jobs(None).await?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        found.push(jobs.find(name).await?);
    }
    Ok(found)
}

async fn all(app: &App) -> Result<Vec<Job>, Failure> {
    let store = app.store().await?;
    // By when they were made, so that jobs made meanwhile come last and move no page.
    let mut query = JobQuery { sort: JobSort::CreatedAt, limit: PAGE, ..JobQuery::default() };
    let mut progress = Progress::new("reading jobs");
    let mut found = Vec::new();
    loop {
        let page = store.list_jobs(&query).await?.items;
        let n = page.len();
        found.extend(page);
        progress.done(found.len() as u64);
        if n < PAGE {
            return Ok(found);
        }
        query.offset += PAGE as u64;
    }
}
