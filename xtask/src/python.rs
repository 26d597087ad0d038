//! The Python package: a wheel, a clean environment, and everything that must hold in it.
//!
//! Needs `python3` (or what `PYTHON` names) from 3.10 on, and a package index from which pip may fetch the
//! tools of `bindings/python/pyproject.toml`. The native linters' lints are those of `cargo clippy` on the
//! crate itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::{self, Failure, cargo};

/// The tool that builds wheels.
const MATURIN: &str = "maturin==1.16.0";

/// Builds the wheel, installs it into a clean environment, and runs linters, type checkers and tests there.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let package = root.join("bindings/python");
    let place = target(root).join("python");
    lints()?;
    let tools = environment(&place.join("tools"))?;
    steps::run("tools for the wheel", pip(&tools, &[OsStr::new(MATURIN)]))?;
    let wheels = place.join("wheels");
    fresh(&wheels)?;
    let mut build = Command::new(tools.join("maturin"));
    build.args(["build", "--profile", "dev", "--compatibility", "linux", "--out"]).arg(&wheels);
    build.current_dir(&package);
    steps::run("wheel", build)?;
    let wheel = only_file(&wheels)?;

    let clean = place.join("clean");
    fresh(&clean)?;
    let bin = environment(&clean)?;
    steps::run("the wheel alone", pip(&bin, &[OsStr::new("--no-deps"), wheel.as_os_str()]))?;
    let mut import = Command::new(bin.join("python"));
    import.args(["-c", "import unified_scheduler, unified_scheduler_engine"]).current_dir(&clean);
    steps::run("import", import)?;
    let mut with_tools = wheel.into_os_string();
    with_tools.push("[test]");
    steps::run("tools for the tests", pip(&bin, &[with_tools.as_os_str()]))?;

    // Away from the sources: what is tested is what was installed.
    let tests = clean.join("tests");
    copy(&package.join("tests"), &tests)?;
    copy_file(&package.join("pyproject.toml"), &clean.join("pyproject.toml"))?;
    let example = Path::new("examples/fastapi_app");
    copy(&root.join(example), &clean.join(example))?;
    let tool = |name: &str, args: &[&str], place: &Path| {
        let mut command = Command::new(bin.join(name));
        command.args(args).current_dir(place);
        steps::run(&[&[name], args].concat().join(" "), command)
    };
    tool("ruff", &["check", "."], &package)?;
    tool("ruff", &["format", "--check", "."], &package)?;
    tool("mypy", &["--strict", "-p", "unified_scheduler_engine", "-p", "unified_scheduler"], &clean)?;
    tool("mypy", &["--strict", "tests"], &clean)?;
    tool("mypy", &["--strict", "examples/fastapi_app"], &clean)?;
    let mut pyright = Command::new(bin.join("pyright"));
    pyright
        .arg("--pythonpath")
        .arg(bin.join("python"))
        .args(["python", "tests", "../../examples/fastapi_app"])
        .current_dir(&package);
    steps::run("pyright", pyright)?;
    tool("pytest", &["-q"], &clean)
}

/// Clippy on the crate, as the rest of the workspace has it.
fn lints() -> Result<(), Failure> {
    let package = "unified-scheduler-python";
    let clippy = cargo(&["clippy", "--package", package, "--all-targets", "--", "-D", "warnings"]);
    steps::run("lints of the Python binding", clippy)
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Makes a virtual environment and gives the folder of its programs.
fn environment(place: &Path) -> Result<PathBuf, Failure> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command.args(["-m", "venv"]).arg(place);
    steps::run("environment", command)?;
    Ok(place.join(if cfg!(windows) { "Scripts" } else { "bin" }))
}

fn pip(bin: &Path, what: &[&OsStr]) -> Command {
    let mut command = Command::new(bin.join("python"));
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(what);
    command
}

/// An empty folder.
fn fresh(place: &Path) -> Result<(), Failure> {
    let gone = std::fs::remove_dir_all(place);
    if let Err(error) = gone
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(broken(place, &error));
    }
    std::fs::create_dir_all(place).map_err(|e| broken(place, &e))
}

fn only_file(place: &Path) -> Result<PathBuf, Failure> {
    let mut entries = std::fs::read_dir(place).map_err(|e| broken(place, &e))?;
    match entries.next() {
        Some(Ok(entry)) => Ok(entry.path()),
        _ => Err(Failure::new(format!("{}: no wheel was built", place.display()))),
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fresh(to)?;
    for entry in std::fs::read_dir(from).map_err(|e| broken(from, &e))? {
        let path = entry.map_err(|e| broken(from, &e))?.path();
        if path.extension() == Some(OsStr::new("py"))
            && let Some(name) = path.file_name()
        {
            copy_file(&path, &to.join(name))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::copy(from, to).map(drop).map_err(|e| broken(from, &e))
}

fn broken(place: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", place.display()))
}
