//! A file that may be read but not written: said clearly, with exit code 3, and left as it is.
//!
//! Root may write everything, so there the program runs as another user.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::fs::{Permissions, copy, read, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

const NOBODY: u32 = 65_534;

/// Runs a copy of the program that every user may run.
fn run(program: &Path, file: &Path, as_nobody: bool) -> Output {
    let mut command = Command::new(program);
    command.args(["--store", &format!("sqlite://{}", file.display()), "jobs", "list"]);
    command.current_dir(file.parent().unwrap());
    if as_nobody {
        command.uid(NOBODY);
    }
    command.output().unwrap()
}

#[test]
fn a_file_that_cannot_be_written_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    let program = folder.path().join("program");
    copy(env!("CARGO_BIN_EXE_unified-scheduler"), &program).unwrap();
    mode(&program, 0o755);
    let file = folder.path().join("jobs.db");
    assert!(run(&program, &file, false).status.success());
    let before = read(&file).unwrap();
    mode(&file, 0o444);
    mode(folder.path(), 0o555);

    let output = run(&program, &file, rustix::process::getuid().is_root());
    mode(folder.path(), 0o755);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("give this user write permission"), "{said}");
    assert_eq!(read(&file).unwrap(), before);
}
