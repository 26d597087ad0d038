//! The real binary, on a store of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Nothing that is waited for takes longer, but on a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a store.
pub(crate) struct Place {
    directory: TempDir,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The same, which went well.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// The same, refused with this code, naming all of these.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is not in {}", self.err);
        }
        self
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, and answers its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unified-scheduler"));
        command.args(args).current_dir(self.directory.path());
        for name in ["UNIFIED_SCHEDULER_STORE", "UNIFIED_SCHEDULER_CONFIG", "UNIFIED_SCHEDULER_LOG"] {
            command.env_remove(name);
        }
        command.env("TZ", "UTC").env("USER", "tester").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Answer {
        self.command(args).output().unwrap().into()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = std::iter::once("--json").chain(args.iter().copied()).collect();
        self.run(&all).well().json()
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Answer {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// How many jobs are stored.
    pub(crate) fn n_jobs(&self) -> u64 {
        self.json(&["jobs", "list"])["total"].as_u64().unwrap()
    }

    /// Starts `serve --json`.
    pub(crate) fn serve(&self, args: &[&str]) -> Served {
        let all: Vec<&str> = ["--json", "serve"].iter().chain(args).copied().collect();
        Served::start(self.command(&all))
    }
}

/// A node that runs, and its events.
pub(crate) struct Served {
    child: Child,
    events: Receiver<String>,
}

impl Served {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, events) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, events }
    }

    /// The next event of this kind that fits.
    #[track_caller]
    pub(crate) fn event(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.events.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("no {kind}: {e}"));
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == kind && fits(&event) {
                return event;
            }
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end: the exit code, and what it said.
    pub(crate) fn end(self) -> (i32, String) {
        let output = self.child.wait_with_output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
    }

    /// Asks it to stop, and waits for that.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.signal(rustix::process::Signal::TERM);
        let (code, err) = self.end();
        assert_eq!(code, 0, "{err}");
    }
}
