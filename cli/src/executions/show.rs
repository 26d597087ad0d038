//! `executions show` and `executions logs`.

use std::time::Duration;

use serde_json::json;
use unified_scheduler::{Execution, Level, LogLine};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::table::Facts;
use crate::output::{clean, time};

/// How many lines one call reads.
const PAGE: usize = 1000;

/// Shows one execution whole.
pub(crate) async fn show_one(app: &App, execution: &Execution) -> Result<Answer, Failure> {
    if app.out.json {
        app.out.value(execution)?;
        return Ok(Answer::Yes);
    }
    let (now, e) = (app.now().await?, execution);
    let mut facts = Facts::new();
    facts.add("execution", e.id.to_string());
    facts.add("job", format!("{} ({})", clean(&e.job_name), clean(e.job_id.as_str())));
    facts.add("runs", clean(&e.handler));
    facts.add("status", app.out.paint.show(Style::of(e.status), e.status.as_str()));
    // That of a failure stands before its message below.
    let reason = e.reason.as_deref().filter(|_| e.error.is_none());
    facts.add("reason", reason.map(clean).unwrap_or_default());
    facts.add("trigger", clean(&e.triggered_by));
    let covers = e.covers_until.map_or(String::new(), |t| format!(", until {}", time::local(t)));
    let many = if e.n_occurrences > 1 {
        format!("; stands for {} occurrences{covers}", e.n_occurrences)
    } else {
        String::new()
    };
    facts.add("due", format!("{}{many}", time::exact(e.due_at, now)));
    let attempt =
        if e.attempt > 1 { format!("{} (first: {})", e.attempt, e.root_id) } else { "1".to_owned() };
    facts.add("attempt", attempt);
    let started = e.started_at.map(|t| {
        let late =
            if e.attempt == 1 { format!(", {} late", time::rough(t.since(e.due_at))) } else { String::new() };
        format!("{}{late}", time::exact(t, now))
    });
    facts.add("started", started.unwrap_or_default());
    facts.add("ended", e.ended_at.map(|t| time::exact(t, now)).unwrap_or_default());
    facts.add("took", e.duration.map(time::rough).unwrap_or_default());
    facts.add("node", e.node_id.as_ref().map(|n| clean(n.as_str())).unwrap_or_default());
    if let Some(result) = &e.result {
        facts.add("result", clean(&result.message));
        if result.records_processed + result.records_affected > 0 {
            let (seen, changed) = (result.records_processed, result.records_affected);
            facts.add("records", format!("{seen} processed, {changed} affected"));
        }
        facts.add("errors", result.errors.iter().map(|t| clean(t)).collect::<Vec<_>>().join("\n"));
        facts.add("warnings", result.warnings.iter().map(|t| clean(t)).collect::<Vec<_>>().join("\n"));
        if !result.details.is_null() {
            let text = serde_json::to_string_pretty(&result.details).unwrap_or_default();
            facts.add("details", text.lines().map(clean).collect::<Vec<_>>().join("\n"));
        }
    }
    if let Some(error) = &e.error {
        let text: Vec<String> = error.message.lines().map(clean).collect();
        let kind = if error.kind == "error" { String::new() } else { format!("{}: ", clean(&error.kind)) };
        facts.add("error", format!("{kind}{}", text.join("\n")));
        let trace = error.trace.as_deref().unwrap_or_default();
        facts.add("trace", trace.lines().map(clean).collect::<Vec<_>>().join("\n"));
    }
    facts.write(&app.out)?;
    Ok(Answer::Yes)
}

/// Shows the log; with `follow`, until the execution has ended.
pub(crate) async fn logs(app: &App, execution: &Execution, follow: bool) -> Result<Answer, Failure> {
    let store = app.store().await?;
    let mut lines: Vec<LogLine> = Vec::new();
    let mut read = 0_u64;
    loop {
        // Asked before the lines, so that what was logged last is not missed.
        let now = store.get_execution(&execution.id).await?;
        let over = now.is_none_or(|e| e.status.is_final());
        loop {
            let page = store.list_logs(&execution.id, read, PAGE).await?;
            read += page.len() as u64;
            let full = page.len() == PAGE;
            match (app.out.json, follow) {
                (false, _) => page.iter().try_for_each(|line| show(app, line))?,
                (true, true) => page.iter().try_for_each(|line| app.out.line(json!(line)))?,
                (true, false) => lines.extend(page),
            }
            if !full {
                break;
            }
        }
        app.out.flush()?;
        if over || !follow {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    if app.out.json && !follow {
        app.out.value(&lines)?;
    }
    Ok(Answer::Yes)
}

fn show(app: &App, line: &LogLine) -> Result<(), Failure> {
    let (word, style) = match line.level {
        Level::Debug => ("debug", Style::Dim),
        Level::Info => ("info", Style::Plain),
        Level::Warning => ("warn", Style::Yellow),
        Level::Error => ("error", Style::Red),
    };
    let fields = if line.fields.is_null() { String::new() } else { format!(" {}", line.fields) };
    let at = app.out.paint.show(Style::Dim, &time::clock(line.timestamp));
    let word = app.out.paint.show(style, &format!("{word:<5}"));
    app.out.line(format_args!("{at} {word} {}{}", clean(&line.message), clean(&fields)))
}
