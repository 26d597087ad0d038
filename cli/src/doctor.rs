//! `doctor`: the store, this machine, and how they get on.

use unified_scheduler::SystemClock;
use unified_scheduler::doctor::examine;
use unified_scheduler::store::{Check, CheckLevel};

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::{clean, count};

pub(crate) async fn run(app: &App) -> Result<Answer, Failure> {
    let checks = examine(&**app.store().await?, &SystemClock::new()).await;
    let failed = checks.iter().any(|check| check.level == CheckLevel::Failed);
    let answer = if failed { Answer::No } else { Answer::Yes };
    if app.out.json {
        app.out.value(&checks)?;
        return Ok(answer);
    }
    show(app, &checks)?;
    Ok(answer)
}

fn show(app: &App, checks: &[Check]) -> Result<(), Failure> {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let (mark, style) = match check.level {
            CheckLevel::Ok => ("✓", Style::Green),
            CheckLevel::Warning => ("!", Style::Yellow),
            CheckLevel::Failed => ("✗", Style::Red),
        };
        let mark = app.out.paint.show(style, mark);
        app.out.line(format_args!("{mark} {:<width$}  {}", clean(&check.name), clean(&check.detail)))?;
    }
    let of = |level| checks.iter().filter(|check| check.level == level).count();
    let (warnings, failed) = (of(CheckLevel::Warning), of(CheckLevel::Failed));
    let (checks, warnings) = (count(checks.len(), "check"), count(warnings, "warning"));
    let text = format!("{checks}, {warnings}, {failed} failed");
    app.out.line(app.out.paint.show(Style::Dim, &text))
}
