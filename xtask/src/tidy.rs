//! Tidiness that no lint sees: who imports whom, how long files are, words that must not be there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::steps::{Failure, cargo, say};

/// A file longer than this holds two ideas.
const LONGEST_FILE: usize = 800;

/// Rooms that everybody would enter.
const NAMELESS_ROOMS: [&str; 5] = ["utils.rs", "util.rs", "common.rs", "helpers.rs", "misc.rs"];

/// Who may import whom. Anything else of ours is refused. Dev-dependencies are free.
const ARROWS: &[(&str, &[&str])] = &[
    ("unified-scheduler-core", &[]),
    ("unified-scheduler-sqlite", &["unified-scheduler-core"]),
    ("unified-scheduler-postgres", &["unified-scheduler-core"]),
    ("unified-scheduler-mongodb", &["unified-scheduler-core"]),
    ("unified-scheduler-redis", &["unified-scheduler-core"]),
    ("unified-scheduler-templates", &["unified-scheduler-core"]),
    ("unified-scheduler-conformance", &["unified-scheduler-core"]),
    (
        "unified-scheduler",
        &[
            "unified-scheduler-core",
            "unified-scheduler-sqlite",
            "unified-scheduler-postgres",
            "unified-scheduler-mongodb",
            "unified-scheduler-redis",
            "unified-scheduler-templates",
        ],
    ),
    ("unified-scheduler-cli", &["unified-scheduler"]),
    ("unified-scheduler-python", &["unified-scheduler"]),
    (
        "unified-scheduler-tests",
        &["unified-scheduler", "unified-scheduler-core", "unified-scheduler-conformance"],
    ),
    (
        "unified-scheduler-bench",
        &[
            "unified-scheduler",
            "unified-scheduler-core",
            "unified-scheduler-services",
            "unified-scheduler-sqlite",
        ],
    ),
    ("unified-scheduler-services", &[]),
    (
        "unified-scheduler-processes",
        &["unified-scheduler", "unified-scheduler-services", "unified-scheduler-tests"],
    ),
    ("xtask", &["unified-scheduler-services"]),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    path: Option<String>,
}

/// Checks everything and lists all that is wrong.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let mut wrong = arrows()?;
    wrong.extend(one_crypto_provider()?);
    for file in sources(root)? {
        wrong.extend(check_file(root, &file)?);
    }
    if wrong.is_empty() {
        say("== tidy: well");
        return Ok(());
    }
    Err(Failure::new(format!("== tidy: FAILED\n{}", wrong.join("\n"))))
}

fn arrows() -> Result<Vec<String>, Failure> {
    let output = cargo(&["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .map_err(|e| Failure::new(format!("cargo metadata: {e}")))?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .map_err(|e| Failure::new(format!("cargo metadata can't be read: {e}")))?;
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let Some(may) = allowed.get(package.name.as_str()) else {
            wrong.push(format!("{}: who may it import? say so in xtask/src/tidy.rs", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let ours = dependency.path.is_some() && dependency.kind.is_none();
            if ours && !may.contains(&dependency.name.as_str()) {
                wrong.push(format!("{} must not import {}", package.name, dependency.name));
            }
        }
    }
    Ok(wrong)
}

/// Two crypto providers in one tree make some drivers panic; ours is ring.
fn one_crypto_provider() -> Result<Vec<String>, Failure> {
    let lock = fs::read_to_string("Cargo.lock").map_err(|e| Failure::new(format!("Cargo.lock: {e}")))?;
    let unwanted = ["aws-lc-sys", "openssl-sys", "native-tls"];
    Ok(unwanted
        .iter()
        .filter(|name| lock.contains(&format!("name = \"{name}\"")))
        .map(|name| format!("Cargo.lock: {name} must not be in the tree; ring is the one provider"))
        .collect())
}

/// Every file of ours that git knows, or would.
fn sources(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|e| Failure::new(format!("git ls-files: {e}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect())
}

fn check_file(root: &Path, file: &Path) -> Result<Vec<String>, Failure> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shown = file.display();
    let mut wrong = Vec::new();
    if NAMELESS_ROOMS.contains(&name.as_str()) {
        wrong.push(format!("{shown}: a room that everybody would enter; name it after its idea"));
    }
    let path = root.join(file);
    if !path.is_file() {
        return Ok(wrong);
    }
    let bytes = fs::read(&path).map_err(|e| Failure::new(format!("{shown}: {e}")))?;
    let Ok(text) = String::from_utf8(bytes) else { return Ok(wrong) };
    let rust = file.extension().is_some_and(|e| e == "rs");
    let n_lines = text.lines().count();
    if rust && n_lines > LONGEST_FILE {
        wrong.push(format!("{shown}: {n_lines} lines; past {LONGEST_FILE} a file holds two ideas"));
    }
    // Spelled in halves, so that this file does not find itself.
    let unwanted = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
    ];
    for (i, line) in text.lines().enumerate() {
        for word in unwanted.iter().filter(|word| line.contains(**word)) {
            wrong.push(format!("{shown}:{}: `{word}` must not be there", i + 1));
        }
    }
    Ok(wrong)
}
