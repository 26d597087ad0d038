//! What handlers did, in files that no store sees: one line for each start, written at once, so that
//! neither a killed process nor two that write leave half of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use unified_scheduler::{Context, Epoch, ExecutionId, JobId, NodeId, Timestamp};

/// How the files of effects end.
pub const EXTENSION: &str = "effects";

/// One start of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Of which execution.
    pub execution: ExecutionId,
    /// Of which job.
    pub job: JobId,
    /// For which occurrence.
    pub due_at: Timestamp,
    /// At which attempt.
    pub attempt: u32,
    /// On which node.
    pub node: NodeId,
    /// In which of its epochs.
    pub epoch: Epoch,
}

impl Start {
    /// The start that a handler is told of.
    pub fn of(ctx: &Context) -> Self {
        let execution = ctx.execution();
        Self {
            execution: execution.id,
            job: execution.job_id.clone(),
            due_at: execution.due_at,
            attempt: execution.attempt,
            node: execution.node_id.clone().unwrap_or_else(|| NodeId::from("nobody")),
            epoch: execution.epoch,
        }
    }
}

/// One node's file of effects.
#[derive(Debug)]
pub struct EffectLog(File);

impl EffectLog {
    /// The file, to be appended to.
    ///
    /// # Errors
    ///
    /// When it can't be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    /// Notes that a handler has started.
    ///
    /// # Errors
    ///
    /// When it can't be written; then the handler must do nothing.
    pub fn started(&self, ctx: &Context) -> io::Result<()> {
        let start = Start::of(ctx);
        let line = format!(
            "{} {} {} {} {} {}\n",
            start.execution,
            start.job,
            start.due_at.as_millis(),
            start.attempt,
            start.node,
            start.epoch
        );
        (&self.0).write_all(line.as_bytes())
    }
}

/// Reads a line.
fn parse(line: &str) -> Option<Start> {
    let mut parts = line.split(' ');
    let start = Start {
        execution: parts.next()?.parse().ok()?,
        job: JobId::from(parts.next()?),
        due_at: Timestamp::from_millis(parts.next()?.parse().ok()?),
        attempt: parts.next()?.parse().ok()?,
        node: NodeId::from(parts.next()?),
        epoch: Epoch(parts.next()?.parse().ok()?),
    };
    parts.next().is_none().then_some(start)
}

/// All starts that the files in a folder tell of.
///
/// # Errors
///
/// A file that can't be read; a line that is none.
pub fn read_all(folder: &Path) -> io::Result<Vec<Start>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != EXTENSION) {
            continue;
        }
        for line in std::fs::read_to_string(&path)?.lines() {
            let start = parse(line)
                .ok_or_else(|| io::Error::other(format!("{}: no start: {line}", path.display())))?;
            all.push(start);
        }
    }
    Ok(all)
}
