//! The Python package: a wheel, a clean environment, and everything that must hold in it.
//!
//! Needs a Python from 3.10 on (what `PYTHON` names, else `python3`; Debian's is installed when there is none),
//! and a package index from which pip may fetch the tools of `bindings/python/pyproject.toml`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use unified_scheduler_services::{Durability, Kind, install, programs};

use crate::services::Services;
use crate::steps::{self, Failure, cargo};

const PACKAGE: &str = "unified-scheduler-python";

/// The tool that builds wheels.
const MATURIN: &str = "maturin==1.16.0";

/// The servers that the tests of the package need.
const SERVERS: &[Kind] = Kind::ALL;

/// `cargo xtask python`: with lints and servers of its own.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let clippy = cargo(&["clippy", "--package", PACKAGE, "--all-targets", "--", "-D", "warnings"]);
    steps::run("lints of the Python binding", clippy)?;
    let services = Services::start(SERVERS, Durability::Fast);
    // What could not be had is told after what the tests say of the rest.
    let tested = test(root, &services);
    services.complete().and(tested)
}

/// Builds the wheel, installs it into a clean environment, and runs linters, type checkers and tests there.
pub(crate) fn test(root: &Path, services: &Services) -> Result<(), Failure> {
    let place = target(root).join("python");
    let wheel = wheel(root, &place, "dev")?;
    let clean = Clean::make(root, place.join("clean"), &wheel)?;
    clean.check_sources()?;
    clean.check_types()?;
    clean.run_tests(services)
}

/// Builds the wheel in a profile, below `place`, which gets the tools for it too.
pub(crate) fn wheel(root: &Path, place: &Path, profile: &str) -> Result<PathBuf, Failure> {
    let tools = environment(&place.join("tools"))?;
    steps::run("tools for the wheel", pip(&tools, &[OsStr::new(MATURIN)]))?;
    let twice = compiled_twice()?;
    if !twice.is_empty() {
        steps::say(&format!(
            "== wheel: these, and what needs them, are compiled apart from the workspace's; name their features \
             in bindings/python/Cargo.toml:\n{}",
            twice.join("\n")
        ));
    }
    let wheels = place.join("wheels");
    fresh(&wheels)?;
    let mut build = Command::new(tools.join("maturin"));
    build.args(["build", "--profile", profile, "--compatibility", "linux", "--out"]).arg(&wheels);
    build.current_dir(root.join("bindings/python"));
    steps::run("wheel", build)?;
    only_file(&wheels)
}

/// What the wheel needs with other features than the tests of the workspace: cargo then compiles it, and all
/// that needs it, a second time, which takes minutes.
fn compiled_twice() -> Result<Vec<String>, Failure> {
    let tree = |selection: &[&str]| -> Result<BTreeSet<String>, Failure> {
        let form = ["--prefix", "none", "--format", "{p} {f}", "--edges"];
        let output = cargo(&[&["tree"], selection, &form[..]].concat())
            .arg(if selection.len() == 1 { "normal,build,dev" } else { "normal,build" })
            .output()
            .map_err(|e| Failure::new(format!("cargo tree: {e}")))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Paths are those of our own crates.
        let lines =
            text.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.contains("(/"));
        Ok(lines.map(str::to_owned).collect())
    };
    let workspace = tree(&["--workspace"])?;
    Ok(tree(&["--package", PACKAGE])?.difference(&workspace).cloned().collect())
}

/// An environment with nothing in it but the wheel and what tests it.
struct Clean {
    root: PathBuf,
    place: PathBuf,
    bin: PathBuf,
}

impl Clean {
    fn make(root: &Path, place: PathBuf, wheel: &Path) -> Result<Self, Failure> {
        fresh(&place)?;
        let bin = environment(&place)?;
        steps::run("the wheel alone", pip(&bin, &[OsStr::new("--no-deps"), wheel.as_os_str()]))?;
        let mut import = Command::new(bin.join("python"));
        import.args(["-c", "import unified_scheduler, unified_scheduler_engine"]).current_dir(&place);
        steps::run("import", import)?;
        let mut with_tools = wheel.as_os_str().to_owned();
        with_tools.push("[test]");
        steps::run("tools for the tests", pip(&bin, &[with_tools.as_os_str()]))?;
        // Away from the sources: what is tested is what was installed.
        let package = root.join("bindings/python");
        copy(&package.join("tests"), &place.join("tests"))?;
        copy_file(&package.join("pyproject.toml"), &place.join("pyproject.toml"))?;
        let example = Path::new("examples/fastapi_app");
        copy(&root.join(example), &place.join(example))?;
        Ok(Self { root: root.to_owned(), place, bin })
    }

    fn package(&self) -> PathBuf {
        self.root.join("bindings/python")
    }

    fn tool(&self, name: &str, args: &[&str], place: &Path) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.args(args).current_dir(place);
        command
    }

    fn run(&self, name: &str, args: &[&str], place: &Path) -> Result<(), Failure> {
        steps::run(&[&[name], args].concat().join(" "), self.tool(name, args, place))
    }

    fn check_sources(&self) -> Result<(), Failure> {
        for place in ["bindings/python", "tests/compat"] {
            self.run("ruff", &["check", "."], &self.root.join(place))?;
            self.run("ruff", &["format", "--check", "."], &self.root.join(place))?;
        }
        Ok(())
    }

    fn check_types(&self) -> Result<(), Failure> {
        for what in [
            &["-p", "unified_scheduler_engine", "-p", "unified_scheduler"][..],
            &["tests"],
            &["examples/fastapi_app"],
        ] {
            self.run("mypy", &[&["--strict"], what].concat(), &self.place)?;
        }
        let mut pyright = self.tool("pyright", &["--pythonpath"], &self.package());
        pyright.arg(self.bin.join("python")).args(["python", "tests", "../../examples/fastapi_app"]);
        steps::run("pyright", pyright)
    }

    /// The tests of the package, then the sample backend's.
    fn run_tests(&self, services: &Services) -> Result<(), Failure> {
        let backend = self.root.join("tests/compat");
        for (name, place) in
            [("tests of the package", &self.place), ("tests of the sample backend", &backend)]
        {
            // Most of what they do is waiting.
            let arguments = ["-m", "pytest", "-q", "-n", "3", "-p", "no:cacheprovider"];
            let mut pytest = self.tool("python", &arguments, place);
            pytest.env("PYTHONDONTWRITEBYTECODE", "1");
            // The pages whose code is run.
            pytest.env("UNIFIED_SCHEDULER_PAGES", &self.root);
            services.name_in(&mut pytest);
            // Some tests start servers of their own: with passwords, with TLS, to be killed.
            if let Ok(mongod) = programs::mongod() {
                pytest.env("MONGOD", mongod);
            }
            if let Some(folder) = unified_scheduler_services::in_memory() {
                pytest.env("MONGOD_FOLDER", folder);
            }
            steps::run(name, pytest)?;
        }
        Ok(())
    }
}

pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Makes a virtual environment and gives the folder of its programs.
pub(crate) fn environment(place: &Path) -> Result<PathBuf, Failure> {
    if let Some(python) = std::env::var_os("PYTHON") {
        let mut command = Command::new(python);
        command.args(["-m", "venv"]).arg(place);
        steps::run("environment", command)?;
    } else {
        install::make_environment(place)
            .map_err(|e| Failure::new(format!("== environment {}: FAILED\n{e}", place.display())))?;
    }
    Ok(place.join(if cfg!(windows) { "Scripts" } else { "bin" }))
}

pub(crate) fn pip(bin: &Path, what: &[&OsStr]) -> Command {
    let mut command = Command::new(bin.join("python"));
    command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(what);
    command
}

/// An empty folder.
pub(crate) fn fresh(place: &Path) -> Result<(), Failure> {
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

/// The Python files of a folder and of those in it.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fresh(to)?;
    for entry in std::fs::read_dir(from).map_err(|e| broken(from, &e))? {
        let path = entry.map_err(|e| broken(from, &e))?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() && name != "__pycache__" {
            copy(&path, &to.join(name))?;
        } else if path.extension() == Some(OsStr::new("py")) {
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
