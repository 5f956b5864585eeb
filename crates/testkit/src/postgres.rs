//! A real PostgreSQL for one test: its own server on its own data folder, killed when the handle is dropped, or when the
//! test's process dies.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;

use crate::eventually;

/// A running server with one empty database.
pub struct Postgres {
    server: Child,
    port: u16,
    // Dropped last: the server writes into it.
    _folder: TempDir,
}

/// Starts a server.
///
/// # Panics
/// If PostgreSQL is not installed (with the line that installs it) or doesn't start.
pub async fn postgres() -> Postgres {
    let binaries = binaries();
    let template = template(&binaries);
    // A port can be taken between the look and the start; another one then.
    for _ in 0..5 {
        if let Some(postgres) = start(&binaries, &template).await {
            return postgres;
        }
    }
    panic!("postgres doesn't start: try `{}/postgres -D {}`", binaries.display(), template.display());
}

impl Postgres {
    /// The URL of its database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// In a hurry, but so that the kernel gets its shared memory back, which a killed server leaves behind.
impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = i32::try_from(self.server.id()).map(Pid::from_raw);
        if pid.is_ok_and(|pid| kill(pid, Signal::SIGQUIT).is_ok()) {
            let end = Instant::now() + Duration::from_secs(3);
            while Instant::now() < end {
                if self.server.try_wait().is_ok_and(|status| status.is_some()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.kill();
    }
}

async fn start(binaries: &Path, template: &Path) -> Option<Postgres> {
    let folder = tempfile::Builder::new().prefix("turnpike-postgres-").tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let copied = Command::new("cp").arg("-a").arg(template).arg(&data).status().expect("cp");
    assert!(copied.success(), "can't copy {}", template.display());
    give_to_owner(folder.path());
    let port = TcpListener::bind("127.0.0.1:0").and_then(|probe| probe.local_addr()).expect("a free port").port();
    let mut server = unprivileged(&binaries.join("postgres"))
        .arg("-D")
        .arg(&data)
        .args(["-p", &port.to_string(), "-h", "127.0.0.1"])
        .arg("-k")
        .arg(folder.path())
        // A test's database needs no durability against a power cut.
        .args([
            "-c",
            "fsync=off",
            "-c",
            "full_page_writes=off",
            "-c",
            "shared_buffers=16MB",
            "-c",
            "max_connections=200",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("postgres");
    let ready = binaries.join("pg_isready");
    let up = eventually("postgres accepts connections", Duration::from_secs(30), || {
        let answered = Command::new(&ready)
            .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
            .status()
            .is_ok_and(|status| status.success());
        let exited = server.try_wait().is_ok_and(|status| status.is_some());
        async move { if exited { Some(false) } else { answered.then_some(true) } }
    })
    .await;
    up.then_some(Postgres { server, port, _folder: folder })
}

/// An initialised data folder, made once and copied for each server: initdb takes a second, a copy a tenth.
fn template(binaries: &Path) -> PathBuf {
    let root = std::env::temp_dir().join(format!("turnpike-postgres-template-{}", geteuid()));
    fs::create_dir_all(&root).expect("a folder for the template");
    let lock = File::create(root.join("lock")).expect("the template's lock");
    lock.lock().expect("the template's lock");
    let data = root.join("data");
    if !root.join("complete").exists() {
        let _ = fs::remove_dir_all(&data);
        give_to_owner(&root);
        let made = unprivileged(&binaries.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "--auth=trust", "--no-sync", "--no-locale", "-E", "UTF8", "--wal-segsize=1"])
            .stdout(Stdio::null())
            .status()
            .expect("initdb");
        assert!(made.success(), "initdb failed");
        File::create(root.join("complete")).expect("the template's mark");
    }
    data
}

/// A command that runs as the user `postgres` where the test runs as root, which PostgreSQL refuses; and that dies with
/// the test.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some((uid, gid)) = owner() {
        command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups"]);
    }
    command.arg(program);
    command
}

fn give_to_owner(folder: &Path) {
    if let Some((uid, gid)) = owner() {
        chown(folder, Some(uid), Some(gid)).expect("chown");
    }
}

fn owner() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let user = User::from_name("postgres").ok().flatten().expect("the user postgres: apt-get install -y postgresql");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn binaries() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        installed.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    found.sort();
    found.pop().expect("PostgreSQL is not installed: apt-get install -y postgresql")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_answers_until_it_is_dropped() {
        let postgres = postgres().await;
        let port = postgres.port;
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        drop(postgres);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
