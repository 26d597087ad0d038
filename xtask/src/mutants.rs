//! Does the net hold? Known bugs are seeded one by one into a copy of the project, and the tests must
//! catch each.
//!
//! The list is `tests/mutants.toml`: a name, a file, the text to replace and what to put there. The tests
//! that are to catch it follow from the file; the cheapest come first, and the simulation last.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Deserialize;

use crate::steps::{Failure, cargo, say};

#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize)]
struct Mutant {
    name: String,
    file: String,
    old: String,
    new: String,
}

impl Mutant {
    /// Packages and tests, as `cargo test` takes them; the first that fails has caught it.
    fn nets(&self) -> &'static [&'static [&'static str]] {
        if self.file.starts_with("stores/sqlite/") {
            return &[
                &["-p", "unified-scheduler-sqlite", "--test", "conformance"],
                &["-p", "unified-scheduler-sqlite", "--test", "files"],
            ];
        }
        &[
            &["-p", "unified-scheduler-core", "--lib"],
            &["-p", "unified-scheduler-conformance", "--test", "suite"],
            &["-p", "unified-scheduler-tests", "--test", "simulation"],
        ]
    }
}

/// Seeds all bugs, or the one called `only`.
pub(crate) fn run(root: &Path, only: Option<&str>) -> Result<(), Failure> {
    let list = fs::read_to_string(root.join("tests/mutants.toml"))
        .map_err(|e| Failure::new(format!("tests/mutants.toml: {e}")))?;
    let list: List =
        toml::from_str(&list).map_err(|e| Failure::new(format!("tests/mutants.toml can't be read: {e}")))?;
    let chosen: Vec<&Mutant> =
        list.mutant.iter().filter(|m| only.is_none_or(|part| m.name.contains(part))).collect();
    if chosen.is_empty() {
        return Err(Failure::new("no such mutant in tests/mutants.toml"));
    }
    let copy = root.join("target/mutants/tree");
    copy_tree(root, &copy)?;
    let mut survivors = Vec::new();
    for mutant in &chosen {
        let began = Instant::now();
        let caught = seeded(root, &copy, mutant)?;
        let seconds = began.elapsed().as_secs_f64();
        if let Some(by) = caught {
            say(&format!("caught    {:<44} by {by} ({seconds:.0} s)", mutant.name));
        } else {
            say(&format!("SURVIVED  {:<44} ({seconds:.0} s)", mutant.name));
            survivors.push(mutant.name.as_str());
        }
    }
    say(&format!("== mutants: {} of {} caught", chosen.len() - survivors.len(), chosen.len()));
    if survivors.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("== mutants: FAILED; survived: {}", survivors.join(", "))))
}

/// Which test catches the mutant, if one does. The copy is put back as it was.
fn seeded(root: &Path, copy: &Path, mutant: &Mutant) -> Result<Option<String>, Failure> {
    let path = copy.join(&mutant.file);
    let original = fs::read_to_string(&path).map_err(|e| Failure::new(format!("{}: {e}", mutant.file)))?;
    if original.matches(&mutant.old).count() != 1 {
        return Err(Failure::new(format!(
            "{}: the text to replace must be in {} exactly once; it is there {} times",
            mutant.name,
            mutant.file,
            original.matches(&mutant.old).count()
        )));
    }
    let write =
        |text: &str| fs::write(&path, text).map_err(|e| Failure::new(format!("{}: {e}", mutant.file)));
    write(&original.replace(&mutant.old, &mutant.new))?;
    let mut caught = None;
    for test in mutant.nets() {
        let args: Vec<&str> = std::iter::once("test").chain(test.iter().copied()).collect();
        let build: Vec<&str> = args.iter().copied().chain(std::iter::once("--no-run")).collect();
        if !quietly(root, copy, &build)? {
            write(&original)?;
            return Err(Failure::new(format!("{}: does not compile", mutant.name)));
        }
        if !quietly(root, copy, &args)? {
            caught = Some(test.join(" "));
            break;
        }
    }
    write(&original)?;
    Ok(caught)
}

fn quietly(root: &Path, copy: &Path, args: &[&str]) -> Result<bool, Failure> {
    let mut command: Command = cargo(args);
    command
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", root.join("target/mutants/build"))
        .env("SIM_SEEDS", "400")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command.status().map_err(|e| Failure::new(format!("cargo test: {e}")))?;
    Ok(status.success())
}

/// Copies what git knows, or would, into `to`; a file that is the same is not touched, so that cargo
/// does not build it again.
fn copy_tree(root: &Path, to: &Path) -> Result<(), Failure> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|e| Failure::new(format!("git ls-files: {e}")))?;
    for file in String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from) {
        let (source, target) = (root.join(&file), to.join(&file));
        let Ok(bytes) = fs::read(&source) else { continue };
        if fs::read(&target).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| Failure::new(format!("{}: {e}", parent.display())))?;
        }
        fs::write(&target, bytes).map_err(|e| Failure::new(format!("{}: {e}", target.display())))?;
    }
    Ok(())
}
