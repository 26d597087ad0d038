//! The process that owns a server, and outlives us for long enough to end it.
//!
//! A server must not be left over, however its user ends: by return, panic, Ctrl-C, SIGTERM or SIGKILL.
//! One way serves all: a small shell between us and the server reads from a pipe that only we hold.
//! The end of that pipe is the end of the server and of its folder. It has a process group of its own,
//! so that Ctrl-C reaches us and not it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::{Failure, cpu};

const SCRIPT: &str = include_str!("keeper.sh");

/// A server as it is to be started.
pub(crate) struct Recipe {
    /// Its folder; the keeper removes it.
    pub(crate) folder: PathBuf,
    /// The program and its arguments. It must stay in the foreground.
    pub(crate) command: Vec<String>,
    /// The signal that asks it to end.
    pub(crate) ask: &'static str,
    /// A shell command for what it may leave outside of its folder; with `$folder`.
    pub(crate) after: &'static str,
    /// The user to run as, where that is not ours: user and group.
    pub(crate) user: Option<(u32, u32)>,
}

/// A server's owner.
pub(crate) struct Keeper {
    shell: Child,
    // Taken when the keeper is to end.
    verbs: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
    pid: Option<u32>,
}

impl Keeper {
    /// The owner of a server that is not started yet.
    pub(crate) fn new(recipe: &Recipe) -> Result<Self, Failure> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SCRIPT, "keeper"])
            .arg(&recipe.folder)
            .args([recipe.ask, recipe.after])
            .args(&recipe.command)
            .current_dir(&recipe.folder)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        if let Some((user, group)) = recipe.user {
            shell.uid(user).gid(group);
        }
        let cannot = |what: &str| Failure::new(format!("the shell that keeps a server: {what}"));
        let mut shell = shell.spawn().map_err(|e| cannot(&e.to_string()))?;
        let verbs = shell.stdin.take();
        let answers = shell.stdout.take().ok_or_else(|| cannot("it has no output"))?;
        let folder = recipe.folder.clone();
        Ok(Self { shell, verbs, answers: BufReader::new(answers), folder, pid: None })
    }

    /// Starts the server; whether it is ready is another question.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        self.tell("start")
    }

    /// Kills it and its children at once.
    pub(crate) fn crash(&mut self) -> Result<(), Failure> {
        self.tell("crash")
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        self.tell("stop")
    }

    fn tell(&mut self, verb: &str) -> Result<(), Failure> {
        let gone = || Failure::new("the shell that keeps a server has gone");
        writeln!(self.verbs.as_mut().ok_or_else(gone)?, "{verb}").map_err(|_| gone())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(|_| gone())?;
        let pid: u32 = answer.trim().parse().map_err(|_| gone())?;
        self.pid = (pid != 0).then_some(pid);
        Ok(())
    }

    /// How much processor time the server has used since it was started.
    pub(crate) fn cpu(&self) -> Duration {
        self.pid.map_or(Duration::ZERO, cpu::of_family)
    }

    /// Whether the server has ended by itself; where the system does not say, it has not.
    pub(crate) fn has_ended(&self) -> bool {
        let Some(pid) = self.pid else { return true };
        if !Path::new("/proc/self/stat").exists() {
            return false;
        }
        // The state comes after the name in parentheses.
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
        })
    }

    /// The last lines that the server wrote.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.verbs.take());
        // There is nobody to tell; and it ends by itself.
        let _ = self.shell.wait();
    }
}
