//! Running a process: its group, its input and outputs, its end.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use unified_scheduler_core::execution::{JobResult, Level};
use unified_scheduler_core::handler::{HandlerError, Outcome};

use super::lines::pump;
use super::parameters::Command;
use crate::run::{Run, interrupted};

/// How many of the last lines of standard error an error message holds, and how many characters.
const LAST_LINES: usize = 5;
const LAST_CHARS: usize = 1000;
/// How long outputs are read on that a process left open when it ended.
const LINGER: Duration = Duration::from_millis(500);

/// The processes that a command has started. Dropping this kills them, until the first of them was seen
/// to end: from then on its id may become another's.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // Fails when nobody is left, which is what was wanted.
            let _ = kill_process_group(leader, signal);
        }
    }

    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// What was written, as far as it is counted and kept.
#[derive(Default)]
struct Output {
    n_stdout: usize,
    n_stderr: usize,
    n_dropped: usize,
    last_errors: VecDeque<String>,
}

/// Runs the command to its end; `grace` is what it gets between SIGTERM and SIGKILL.
pub(super) async fn execute(
    command: &Command,
    grace: Duration,
    run: &dyn Run,
) -> Result<Outcome, HandlerError> {
    let started_at = run.now();
    let output = Mutex::new(Output::default());
    let mut child = spawn(command)?;
    let mut group = Group::of(&child);
    let mut stopped_by = None;
    let status = {
        let mut talk = pin!(talk(&mut child, command, run, &output));
        let mut talking = true;
        let mut asked = pin!(run.cancelled());
        let mut patience = pin!(async { run.sleep(grace).await });
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                () = &mut talk, if talking => talking = false,
                () = &mut asked, if stopped_by.is_none() => {
                    group.signal(Signal::TERM);
                    stopped_by = Some("SIGTERM");
                }
                () = &mut patience, if stopped_by == Some("SIGTERM") => {
                    group.signal(Signal::KILL);
                    stopped_by = Some("SIGKILL");
                }
            }
        };
        if stopped_by.is_some() {
            // Whoever of the group did not listen ends now; the id is not given anew while they live.
            group.signal(Signal::KILL);
        }
        group.forget();
        if talking && tokio::time::timeout(LINGER, talk).await.is_err() {
            run.log(Level::Warning, "it ended, and left processes behind that hold its output".to_owned());
        }
        status
    };
    let output = output.into_inner().unwrap_or_else(PoisonError::into_inner);
    let result = JobResult {
        message: ending(status),
        details: json!({
            "program": command.program, "exit_code": status.code(), "signal": status.signal(),
            "duration_seconds": run.now().since(started_at).as_secs_f64(),
            "stdout_lines": output.n_stdout, "stderr_lines": output.n_stderr, "dropped_lines": output.n_dropped,
        }),
        ..JobResult::default()
    };
    if let Some(signal) = stopped_by {
        return Err(interrupted(format!("stopped with {signal}; it {}", result.message)).with_result(result));
    }
    if status.code().is_some_and(|code| command.success.contains(&code)) {
        return Ok(result.into());
    }
    let mut message = format!("the command {}", result.message);
    let last: Vec<String> = output.last_errors.into();
    if !last.is_empty() {
        message = format!("{message}: {}", tail(&last.join("\n"), LAST_CHARS));
    }
    Err(HandlerError::new(message).with_result(JobResult { errors: last, ..result }))
}

fn spawn(command: &Command) -> Result<Child, String> {
    let mut process = tokio::process::Command::new(&command.program);
    process
        .args(&command.args)
        .env_clear()
        .envs(&command.environment)
        .stdin(if command.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(directory) = &command.working_directory {
        if !std::path::Path::new(directory).is_dir() {
            return Err(format!("there is no directory {directory} to run in"));
        }
        process.current_dir(directory);
    }
    process.spawn().map_err(|e| {
        let program = &command.program;
        match e.kind() {
            ErrorKind::NotFound => format!("there is no program `{program}` on this node"),
            ErrorKind::PermissionDenied => format!("the node's user may not run `{program}`"),
            _ => format!("`{program}` can't be started: {e}"),
        }
    })
}

/// Feeds the process its input, and turns what it writes into log lines, until it closes its outputs.
fn talk<'a>(
    child: &mut Child,
    command: &'a Command,
    run: &'a dyn Run,
    output: &'a Mutex<Output>,
) -> impl Future<Output = ()> + 'a {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let lock = || output.lock().unwrap_or_else(PoisonError::into_inner);
    let keep = move |n: usize, level: Level, line: String| {
        if n <= command.capture.max_lines {
            run.log(level, line);
        } else {
            lock().n_dropped += 1;
            if n == command.capture.max_lines + 1 {
                run.log(Level::Warning, format!("more than {} lines; the rest is dropped", n - 1));
            }
        }
    };
    let feed = async move {
        if let (Some(mut stdin), Some(text)) = (stdin, &command.stdin) {
            // A process may end, or close its input, without having read it.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
    };
    let stdout = pump(stdout, command.capture, move |line| {
        let n = {
            let mut output = lock();
            output.n_stdout += 1;
            output.n_stdout
        };
        keep(n, Level::Info, line);
    });
    let stderr = pump(stderr, command.capture, move |line| {
        let n = {
            let mut output = lock();
            output.n_stderr += 1;
            if output.last_errors.len() == LAST_LINES {
                output.last_errors.pop_front();
            }
            output.last_errors.push_back(line.clone());
            output.n_stderr
        };
        keep(n, Level::Warning, line);
    });
    async move {
        tokio::join!(feed, stdout, stderr);
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last `n` characters.
fn tail(text: &str, n: usize) -> String {
    let n_chars = text.chars().count();
    text.chars().skip(n_chars.saturating_sub(n)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::{CommandOptions, inherited};
    use super::*;
    use crate::run::tests::FakeRun;

    fn command(parameters: &Value) -> Command {
        let options = CommandOptions { allow_shell: true, ..CommandOptions::default() };
        let mut command = Command::read(&mut parameters.as_object().unwrap().clone(), &options).unwrap();
        let mut environment = inherited(&options);
        environment.append(&mut command.environment);
        command.environment = environment;
        command
    }

    async fn execute_it(parameters: Value, run: &FakeRun) -> Result<Outcome, HandlerError> {
        execute(&command(&parameters), Duration::from_secs(3), run).await
    }

    /// Whether the process has ended; a zombie that nobody waits for has.
    fn is_gone(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim().is_empty() || rest.trim().starts_with('Z'))
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        for _ in 0..100_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it never came to hold");
    }

    fn line_after(run: &FakeRun, prefix: &str) -> Option<String> {
        let lines = run.lines.lock().unwrap();
        lines.iter().find_map(|(_, line)| line.strip_prefix(prefix).map(str::to_owned))
    }

    #[tokio::test]
    async fn what_a_program_writes_becomes_lines_and_its_end_the_result() {
        let run = FakeRun::new();
        let parameters = json!({
            "shell": "cat; echo $GREETING $SECRET_OF_THE_NODE; printf 'a\\377b' >&2; pwd", "stdin": "one\ntwo\n",
            "environment": {"GREETING": "hello"}, "working_directory": "/",
        });
        let outcome = execute_it(parameters, &run).await.unwrap();
        let lines = run.lines.lock().unwrap().clone();
        let of = |level: Level| -> Vec<&str> {
            lines.iter().filter(|(l, _)| *l == level).map(|(_, line)| line.as_str()).collect()
        };
        assert_eq!(of(Level::Info), ["one", "two", "hello", "/"]);
        assert_eq!(of(Level::Warning), ["a\u{fffd}b"]);
        assert_eq!(outcome.result.details["exit_code"], 0);
        assert_eq!(outcome.result.details["stdout_lines"], 4);
    }

    #[tokio::test]
    async fn an_exit_code_that_nobody_expects_fails_with_the_last_words() {
        let run = FakeRun::new();
        let shell = "for i in 1 2 3 4 5 6 7; do echo word $i >&2; done; exit 3";
        let error = execute_it(json!({"shell": shell}), &run).await.unwrap_err();
        assert!(error.failure.message.starts_with("the command ended with exit code 3: word 3\n"), "{error}");
        assert!(error.failure.message.ends_with("word 7"), "{error}");
        assert_eq!(error.result.unwrap().details["exit_code"], 3);
        assert!(execute_it(json!({"shell": shell, "success_exit_codes": [3]}), &run).await.is_ok());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = execute_it(json!({"program": "/no/such/program"}), &FakeRun::new()).await.unwrap_err();
        assert!(error.failure.message.contains("/no/such/program"), "{error}");
        let parameters = json!({"program": "true", "working_directory": "/no/such/directory"});
        let error = execute_it(parameters, &FakeRun::new()).await.unwrap_err();
        assert!(error.failure.message.contains("no directory"), "{error}");
    }

    #[tokio::test]
    async fn lines_beyond_the_limit_are_read_and_dropped() {
        let run = FakeRun::new();
        let parameters = json!({"shell": "seq 1 20000", "capture": {"max_lines": 2}});
        let details = execute_it(parameters, &run).await.unwrap().result.details;
        assert_eq!((&details["stdout_lines"], &details["dropped_lines"]), (&json!(20_000), &json!(19_998)));
        assert_eq!(run.lines.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn input_that_nobody_reads_holds_nothing_up() {
        let parameters = json!({"program": "true", "stdin": "x".repeat(1_000_000)});
        assert!(execute_it(parameters, &FakeRun::new()).await.is_ok());
    }

    #[tokio::test]
    async fn a_cancelled_command_may_clean_up_and_its_children_end_with_it() {
        let run = FakeRun::frozen();
        let shell = "trap 'echo bye; exit 0' TERM; sleep 1000 & echo child=$!; wait";
        let (result, ()) = tokio::join!(execute_it(json!({"shell": shell}), &run), async {
            until(|| run.has_line("child=")).await;
            run.cancel();
        });
        let error = result.unwrap_err();
        assert_eq!(error.failure.kind, "interrupted");
        assert!(run.has_line("bye"));
        until(|| is_gone(&line_after(&run, "child=").unwrap())).await;
    }

    #[tokio::test]
    async fn a_command_that_does_not_listen_is_killed_with_its_grandchildren() {
        let run = FakeRun::new();
        let shell = "trap '' TERM; sh -c 'sleep 1000 & echo grandchild=$!; wait' & wait; while :; do sleep 1000; done";
        let (result, ()) = tokio::join!(execute_it(json!({"shell": shell}), &run), async {
            until(|| run.has_line("grandchild=")).await;
            run.cancel();
        });
        let error = result.unwrap_err();
        assert!(error.failure.message.starts_with("stopped with SIGKILL"), "{error}");
        assert_eq!(error.result.unwrap().details["signal"], 9);
        assert_eq!(*run.slept.lock().unwrap(), [3]);
        until(|| is_gone(&line_after(&run, "grandchild=").unwrap())).await;
    }

    #[tokio::test]
    async fn a_command_whose_future_is_dropped_is_killed_with_its_grandchildren() {
        let run = FakeRun::new();
        let shell = "echo leader=$$; sh -c 'sleep 1000 & echo grandchild=$!; wait'";
        tokio::select! {
            _ = execute_it(json!({"shell": shell}), &run) => panic!("it can't have ended"),
            () = until(|| run.has_line("grandchild=")) => {}
        }
        until(|| is_gone(&line_after(&run, "grandchild=").unwrap())).await;
        until(|| is_gone(&line_after(&run, "leader=").unwrap())).await;
    }

    #[tokio::test]
    async fn a_process_left_behind_holds_nothing_up() {
        let run = FakeRun::new();
        let outcome = execute_it(json!({"shell": "sleep 1000 & echo left=$!"}), &run).await.unwrap();
        assert_eq!(outcome.result.details["exit_code"], 0);
        assert!(run.has_line("left processes behind"));
        let left: i32 = line_after(&run, "left=").unwrap().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(left).unwrap(), Signal::KILL).unwrap();
    }
}
