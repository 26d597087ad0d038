//! `jobs export`: documents that `jobs import` reads back as the same jobs, a page at a time.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use serde_json::Value;
use unified_scheduler::store::{JobPages, JobQuery};
use unified_scheduler::{Job, document};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::progress::Progress;
use crate::output::{Out, count, note};

/// Where documents go.
enum Sink<'a> {
    Out(&'a Out),
    File(BufWriter<File>, PathBuf),
}

impl Sink<'_> {
    fn line(&mut self, text: &str) -> Result<(), Failure> {
        match self {
            Self::Out(out) => out.line(text),
            Self::File(file, path) => writeln!(file, "{text}")
                .map_err(|e| Failure::input(format!("`{}` can't be written: {e}", path.display()))),
        }
    }
}

/// An array of documents, or one a line.
struct Writer<'a> {
    sink: Sink<'a>,
    lines: bool,
    /// Held back until it is known whether a comma comes after it.
    last: Option<String>,
    n: usize,
}

impl Writer<'_> {
    fn begin(&mut self) -> Result<(), Failure> {
        if self.lines { Ok(()) } else { self.sink.line("[") }
    }

    fn add(&mut self, job: &Job) -> Result<(), Failure> {
        self.n += 1;
        let text = render(&document::export(job), self.lines)?;
        if self.lines {
            return self.sink.line(&text);
        }
        match self.last.replace(text) {
            Some(before) => self.sink.line(&(before + ",")),
            None => Ok(()),
        }
    }

    fn end(mut self) -> Result<(), Failure> {
        if let Some(last) = self.last.take() {
            self.sink.line(&last)?;
        }
        if !self.lines {
            self.sink.line("]")?;
        }
        if let Sink::File(mut file, path) = self.sink {
            let failed = |e| Failure::input(format!("`{}` can't be written: {e}", path.display()));
            file.flush().map_err(failed)?;
            note(format_args!("{} written to {}", count(self.n, "job"), path.display()));
        }
        Ok(())
    }
}

fn render(document: &Value, line: bool) -> Result<String, Failure> {
    let text = if line { serde_json::to_string(document) } else { serde_json::to_string_pretty(document) };
    let text = text.map_err(|e| Failure::input(format!("a job can't be written as JSON: {e}")))?;
    Ok(if line { text } else { text.lines().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n") })
}

pub(crate) async fn export(
    app: &App,
    names: &[String],
    output: Option<PathBuf>,
    lines: bool,
) -> Result<Answer, Failure> {
    // Looked up first, so that a misspelled name writes no half of a file.
    let wanted = named(app, names).await?;
    let sink = match output {
        None => Sink::Out(&app.out),
        Some(path) => {
            let file = File::create(&path)
                .map_err(|e| Failure::input(format!("`{}` can't be written: {e}", path.display())))?;
            Sink::File(BufWriter::new(file), path)
        }
    };
    let mut writer = Writer { sink, lines, last: None, n: 0 };
    writer.begin()?;
    if names.is_empty() {
        all(app, &mut writer).await?;
    } else {
        wanted.iter().try_for_each(|job| writer.add(job))?;
    }
    writer.end()?;
    Ok(Answer::Yes)
}

async fn named(app: &App, names: &[String]) -> Result<Vec<Job>, Failure> {
    let jobs = app.jobs(None).await?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        found.push(jobs.find(name).await?);
    }
    Ok(found)
}

async fn all(app: &App, writer: &mut Writer<'_>) -> Result<(), Failure> {
    let store = app.store().await?;
    let mut pages = JobPages::new(&**store, JobQuery::default());
    let mut progress = Progress::new("writing jobs");
    loop {
        let page = pages.next().await?;
        page.iter().try_for_each(|job| writer.add(job))?;
        progress.done(writer.n as u64);
        if page.is_empty() {
            return Ok(());
        }
    }
}
