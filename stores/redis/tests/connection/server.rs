//! A private server for a test, on a free port and in a temporary folder, ended by its process.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A private server.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Child,
    settings: Vec<String>,
    folder: TempDir,
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound above").port()
}

fn spawn(port: u16, folder: &Path, settings: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--port"])
        .arg(port.to_string())
        .arg("--dir")
        .arg(folder)
        .args(settings)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

impl Server {
    pub(crate) fn start(settings: &[&str]) -> Self {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let process = spawn(port, folder.path(), &settings);
        let server = Self { port, process, settings, folder };
        server.wait();
        server
    }

    fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the server has not started");
            std::thread::yield_now();
        }
    }

    pub(crate) fn stop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it has been killed");
    }

    pub(crate) fn start_again(&mut self) {
        self.process = spawn(self.port, self.folder.path(), &self.settings);
        self.wait();
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(signal).arg(self.process.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "the server gets {signal}");
    }

    pub(crate) fn url(&self, login: &str) -> String {
        format!("redis://{login}127.0.0.1:{}/", self.port)
    }

    pub(crate) fn command(&self, words: &[&str]) {
        self.ask::<redis::Value>(words);
    }

    /// What the server answers to a command.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url("")).expect("a URL");
        let mut link = client.get_connection().expect("a connection");
        let mut cmd = redis::cmd(words[0]);
        for word in &words[1..] {
            cmd.arg(word);
        }
        cmd.query(&mut link).expect("the server takes the command")
    }

    /// Sets a field of a hash to these bytes.
    pub(crate) fn hset(&self, key: &str, field: &[u8], value: &[u8]) {
        let client = redis::Client::open(self.url("")).expect("a URL");
        let mut link = client.get_connection().expect("a connection");
        redis::cmd("HSET").arg(key).arg(field).arg(value).exec(&mut link).expect("written");
    }

    /// How often each command was called since the last `CONFIG RESETSTAT`, scripts' own calls included.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let info: String = self.ask(&["INFO", "commandstats"]);
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
