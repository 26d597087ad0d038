//! `nodes`: who shares the store.

use unified_scheduler::Timestamp;
use unified_scheduler::store::Node;

use crate::app::App;
use crate::exit::{Answer, Failure};
use crate::output::color::Style;
use crate::output::table::{Cell, Table};
use crate::output::time;

pub(crate) async fn run(app: &App) -> Result<Answer, Failure> {
    let nodes = app.store().await?.list_nodes().await?;
    if app.out.json {
        app.out.value(&nodes)?;
        return Ok(Answer::Yes);
    }
    let now = app.now().await?;
    let mut table = Table::new(&[
        "node",
        "state",
        "running",
        "of",
        "heartbeat",
        "since",
        "host",
        "pid",
        "version",
        "epoch",
    ]);
    for node in &nodes {
        table.row(row(node, now));
    }
    if table.is_empty() {
        app.out.line("no node is running; start one with `unified-scheduler serve`")?;
    } else {
        table.write(&app.out)?;
    }
    Ok(Answer::Yes)
}

fn row(node: &Node, now: Timestamp) -> Vec<Cell> {
    let (state, style) = if node.dead {
        ("gone", Style::Dim)
    } else if node.lease_until < now {
        ("overdue", Style::Red)
    } else if node.info.draining {
        ("stopping", Style::Yellow)
    } else {
        ("alive", Style::Green)
    };
    vec![
        Cell::new(node.id.as_str()),
        Cell::new(state).style(style),
        Cell::new(node.info.running.to_string()).right(),
        Cell::new(node.info.concurrency.to_string()).right(),
        Cell::new(time::relative(node.seen_at, now)),
        Cell::new(time::local(node.joined_at)),
        Cell::new(&node.info.host),
        Cell::new(node.info.pid.to_string()).right(),
        Cell::new(&node.info.version),
        Cell::new(node.epoch.0.to_string()).right(),
    ]
}
