//! The process of a server: started on a folder of its own, waited for, killed with the test. An operator's way in is a
//! socket in that folder, whatever the server's ports, users and certificates are.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::wire;
use crate::eventually;

/// How long a server may take to answer, a slow machine and a log to load considered.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The operator, who may do everything.
const OPERATOR: [&str; 3] = ["AUTH", "testkit", "testkit"];

pub(super) struct Process {
    server: Child,
    program: PathBuf,
    arguments: Vec<String>,
    // Dropped last: the server writes into it.
    folder: TempDir,
}

impl Process {
    /// None if it ended, as it does where the port is taken.
    pub(super) async fn start(program: PathBuf, arguments: Vec<String>) -> Option<Self> {
        Self::start_in(folder(), program, arguments).await
    }

    pub(super) async fn start_in(folder: TempDir, program: PathBuf, arguments: Vec<String>) -> Option<Self> {
        let server = spawn(folder.path(), &program, &arguments);
        let mut process = Self { server, program, arguments, folder };
        process.is_up().await.then_some(process)
    }

    /// Kills it if it still runs. Whether it is up again.
    pub(super) async fn restart(&mut self) -> bool {
        self.kill();
        for _ in 0..10 {
            self.server = spawn(self.folder.path(), &self.program, &self.arguments);
            if self.is_up().await {
                return true;
            }
            // Somebody else has the port for a moment.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        false
    }

    pub(super) fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    pub(super) fn id(&self) -> u32 {
        self.server.id()
    }

    pub(super) fn limit_files(&self, bytes: Option<u64>) {
        let most = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        // Whoever may not raise the hard limit can still raise the soft one to it.
        let (id, limit) = (self.id().to_string(), format!("--fsize={most}:"));
        let limited = Command::new("prlimit").args(["--pid", &id, &limit]).status();
        assert!(limited.is_ok_and(|status| status.success()), "prlimit --pid {id} {limit}");
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }

    pub(super) fn command(&self, words: &[&str]) -> io::Result<String> {
        let mut stream = UnixStream::connect(socket(self.folder.path()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        wire::ask(&mut stream, &OPERATOR)?;
        wire::ask(&mut stream, words)
    }

    /// Whether this process, and no other, answers, and has loaded its data.
    pub(super) fn answers(&self) -> bool {
        let ask = || {
            let mut stream = UnixStream::connect(socket(self.folder.path()))?;
            stream.set_read_timeout(Some(Duration::from_millis(500)))?;
            wire::ask(&mut stream, &OPERATOR)?;
            wire::ask(&mut stream, &["INFO"])
        };
        let info: io::Result<String> = ask();
        let is = |line: &str| info.as_ref().is_ok_and(|info| info.lines().any(|other| other == line));
        // A sentinel loads nothing, and says nothing of it.
        is(&format!("process_id:{}", self.id())) && (is("loading:0") || is("redis_mode:sentinel"))
    }

    /// Waits until it answers; false if it ended.
    async fn is_up(&mut self) -> bool {
        eventually("redis-server answers", PATIENCE, || {
            let exited = self.server.try_wait().is_ok_and(|status| status.is_some());
            let up = if exited { Some(false) } else { self.answers().then_some(true) };
            async move { up }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(super) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("turnpike-redis-").tempdir().expect("a temporary folder")
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

fn spawn(folder: &Path, program: &Path, arguments: &[String]) -> Child {
    // `setpriv`: it dies with the test. `env`: a file that may not grow is an error, not the server's death.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "env", "--ignore-signal=XFSZ"]).arg(program);
    command.args(arguments);
    command.arg("--unixsocket").arg(socket(folder)).args(["--logfile", "redis.log", "--dir"]).arg(folder);
    // A sentinel has its users in its file.
    if !arguments.iter().any(|argument| argument == "--sentinel") {
        command.args(["--user", "testkit", "on", ">testkit", "~*", "&*", "+@all"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("setpriv")
}

/// The system's.
pub(super) fn program() -> PathBuf {
    let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
    if found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        panic!("redis-server is not installed: apt-get install -y --no-install-recommends redis-server");
    }
    "redis-server".into()
}

/// One of a later version.
pub(super) fn later() -> PathBuf {
    // A test runs in the folder of its crate.
    let here = std::env::current_dir().expect("a folder to run in");
    let found = here.ancestors().map(|folder| folder.join("target/tools/redis/run")).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no later Redis is installed: deploy/install-test-tools"))
}
