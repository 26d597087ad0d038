//! A node's process, as the drill sees it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use unified_scheduler::{Epoch, NodeId};

/// How the files end that nodes write their events to.
pub const EVENTS: &str = "events";

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// The store, as it is reached by this node.
    pub url: String,
    /// Where its files are.
    pub folder: PathBuf,
    /// How far its clock is ahead.
    pub skew_millis: i64,
}

/// A running process.
pub struct Node {
    /// Names its files.
    pub name: String,
    child: Child,
    events: PathBuf,
}

impl Node {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When it can't be started.
    pub fn start(launch: &Launch, name: &str) -> io::Result<Self> {
        let file = |extension: &str| launch.folder.join(format!("{name}.{extension}"));
        let child = Command::new(&launch.program)
            .arg(&launch.url)
            .arg(name)
            .arg(&launch.folder)
            .arg(launch.skew_millis.to_string())
            // It ends when this pipe does: it must not outlive a test that was killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(file("log"))?)
            .spawn()?;
        Ok(Self { name: name.to_owned(), child, events: file(EVENTS) })
    }

    /// Ends it in the middle of whatever it does.
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Makes it stand still.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn go_on(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Asks it to drain and end.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn ask_to_end(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for its end, at most so long.
    ///
    /// # Errors
    ///
    /// When it is still there.
    pub fn wait(&mut self, most: Duration) -> io::Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if began.elapsed() > most {
                return Err(io::Error::other(format!("{} has not ended within {most:?}", self.name)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has told so far.
    pub fn events(&self) -> Vec<Value> {
        read_events(&self.events)
    }

    /// Who it was when it last joined.
    pub fn identity(&self) -> Option<(NodeId, Epoch)> {
        self.events().iter().rev().find_map(joined)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who has joined, if that is what the event says.
fn joined(event: &Value) -> Option<(NodeId, Epoch)> {
    if event["event"] != "node_joined" {
        return None;
    }
    Some((NodeId::from(event["node_id"].as_str()?), Epoch(event["epoch"].as_i64()?)))
}

/// What all nodes of a run have told.
///
/// # Errors
///
/// When the folder can't be read.
pub fn all_events(folder: &Path) -> io::Result<Vec<Value>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EVENTS) {
            all.extend(read_events(&path));
        }
    }
    Ok(all)
}

/// The events in a file; a line that is not yet whole is left out.
fn read_events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
