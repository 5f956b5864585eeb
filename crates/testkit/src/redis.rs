//! A real Redis for one test: its own server on its own folder, killed when the handle is dropped, or when the test's
//! process dies.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{eventually, free_port};

/// How long a server may take to answer, a slow machine and a log to load considered.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server writes to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aof {
    /// Every write before it is answered: a killed server has lost nothing.
    #[default]
    Always,
    /// Once a second. What a killed server wrote is still in the system's cache; only a power cut loses it.
    EverySecond,
    /// Nothing: a restarted server is empty.
    Off,
}

#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    pub aof: Aof,
    /// More of its settings, as in `("maxmemory", "4mb")`.
    pub settings: Vec<(&'static str, String)>,
}

/// A running server, empty at first.
pub struct Redis {
    server: Child,
    port: u16,
    options: RedisOptions,
    // Dropped last: the server writes into it.
    folder: TempDir,
}

/// Starts a server that writes everything to disk before it answers.
///
/// # Panics
/// If redis-server is not installed (with the line that installs it) or doesn't start.
pub async fn redis() -> Redis {
    Redis::start(RedisOptions::default()).await
}

impl Redis {
    /// # Panics
    /// If redis-server is not installed (with the line that installs it) or doesn't start.
    pub async fn start(options: RedisOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("turnpike-redis-").tempdir().expect("a temporary folder");
        // A port can be taken between the look and the start; another one then.
        for _ in 0..10 {
            let port = free_port();
            if let Some(server) = serve(folder.path(), port, &options).await {
                return Self { server, port, options, folder };
            }
        }
        panic!("redis-server doesn't start: {}", log(folder.path()));
    }

    /// As `redis://127.0.0.1:PORT`; the same after a restart.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills the server as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// Starts it again, on the same port and folder; kills it first if it still runs.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn restart(&mut self) {
        self.kill();
        for _ in 0..10 {
            if let Some(server) = serve(self.folder.path(), self.port, &self.options).await {
                self.server = server;
                return;
            }
            // Somebody else has the port for a moment.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("redis-server doesn't start again: {}", log(self.folder.path()));
    }

    /// Stops the process where it stands (SIGSTOP): connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.server.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("redis-server runs");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a server and waits until it answers; None if it ended, as it does where the port is taken.
async fn serve(folder: &Path, port: u16, options: &RedisOptions) -> Option<Child> {
    let (appendonly, appendfsync) = match options.aof {
        Aof::Always => ("yes", "always"),
        Aof::EverySecond => ("yes", "everysec"),
        Aof::Off => ("no", "no"),
    };
    // `setpriv`: it dies with the test.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", binary(), "--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", appendonly, "--appendfsync", appendfsync, "--logfile", "redis.log"])
        .arg("--dir")
        .arg(folder);
    for (name, value) in &options.settings {
        command.arg(format!("--{name}")).arg(value);
    }
    let mut server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("setpriv");
    let up = eventually("redis-server answers", PATIENCE, || {
        let exited = server.try_wait().is_ok_and(|status| status.is_some());
        let up = if exited { Some(false) } else { answers(port, server.id()).then_some(true) };
        async move { up }
    })
    .await;
    up.then_some(server)
}

/// Whether this process, and no other, answers on the port, and has loaded its data.
fn answers(port: u16, process: u32) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let wait = Some(Duration::from_millis(500));
    if stream.set_read_timeout(wait).is_err() || stream.write_all(b"INFO\r\nQUIT\r\n").is_err() {
        return false;
    }
    let mut info = Vec::new();
    let _ = stream.read_to_end(&mut info);
    let info = String::from_utf8_lossy(&info);
    let says = |line: &str| info.lines().any(|other| other == line);
    says(&format!("process_id:{process}")) && says("loading:0")
}

fn binary() -> &'static str {
    let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    if found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        panic!("redis-server is not installed: apt-get install -y --no-install-recommends redis-server");
    }
    "redis-server"
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("redis.log")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(redis: &Redis, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", redis.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[tokio::test]
    async fn a_killed_server_has_what_it_wrote_when_it_is_started_again() {
        let mut redis = redis().await;
        ask(&redis, "SET a 1").unwrap();
        redis.kill();
        assert!(ask(&redis, "GET a").is_err());
        redis.restart().await;
        assert!(ask(&redis, "GET a").unwrap().contains("\r\n1\r\n"));
    }

    #[tokio::test]
    async fn a_server_without_aof_forgets() {
        let mut redis = Redis::start(RedisOptions { aof: Aof::Off, ..RedisOptions::default() }).await;
        ask(&redis, "SET a 1").unwrap();
        redis.restart().await;
        assert!(ask(&redis, "GET a").unwrap().contains("$-1"));
    }

    #[tokio::test]
    async fn a_paused_server_answers_once_it_goes_on() {
        let redis = redis().await;
        redis.pause();
        assert!(!answers(redis.port, redis.server.id()));
        redis.resume();
        assert!(answers(redis.port, redis.server.id()));
        let port = redis.port;
        drop(redis);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
