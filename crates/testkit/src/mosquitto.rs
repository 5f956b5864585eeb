//! A real MQTT broker for one test: Mosquitto on a folder of its own, with a listener for WebSockets beside the plain one;
//! killed when the handle is dropped, or when the test's process dies.

use std::{
    fs,
    io::ErrorKind,
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{Certificates, eventually, free_port};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Debian puts it where only root looks for programs.
const PROGRAMS: [&str; 2] = ["mosquitto", "/usr/sbin/mosquitto"];

/// How it is set up; by default it lets everybody in.
#[derive(Clone, Debug, Default)]
pub struct MosquittoOptions {
    /// The plain listener speaks TLS, as `localhost`.
    pub tls: Option<Certificates>,
    /// The one name and password that are let in.
    pub account: Option<(&'static str, &'static str)>,
    /// The bytes of the largest packet that it takes.
    pub max_packet: Option<u32>,
}

/// A running broker that keeps sessions and what it has for them over a restart.
pub struct Mosquitto {
    server: Child,
    port: u16,
    websocket: u16,
    // Dropped last: the server writes into it.
    folder: TempDir,
}

/// # Panics
/// If mosquitto is not installed (with the line that installs it) or doesn't start.
pub async fn mosquitto() -> Mosquitto {
    Mosquitto::start(MosquittoOptions::default()).await
}

impl MosquittoOptions {
    fn write(&self, folder: &TempDir, port: u16, websocket: u16) {
        let mut lines = vec![format!("listener {port} 127.0.0.1")];
        if let Some(tls) = &self.tls {
            let (certificate, key) = tls.server();
            lines.extend([format!("certfile {}", certificate.display()), format!("keyfile {}", key.display())]);
        }
        lines.extend([format!("listener {websocket} 127.0.0.1"), "protocol websockets".to_owned()]);
        lines.push(format!("allow_anonymous {}", self.account.is_none()));
        if let Some((name, password)) = self.account {
            let file = folder.path().join("passwords");
            let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args([name, password]).status();
            assert!(made.expect("mosquitto_passwd, which comes with mosquitto").success(), "a file of passwords");
            lines.push(format!("password_file {}", file.display()));
        }
        lines.extend(self.max_packet.map(|bytes| format!("max_packet_size {bytes}")));
        lines.extend(["persistence true".to_owned(), format!("persistence_location {}/", folder.path().display())]);
        lines.extend(["max_queued_messages 100000".to_owned(), "user root".to_owned(), String::new()]);
        fs::write(folder.path().join("mosquitto.conf"), lines.join("\n")).expect("a folder that can be written to");
    }
}

impl Mosquitto {
    /// # Panics
    /// As [`mosquitto`].
    pub async fn start(options: MosquittoOptions) -> Self {
        // A port can be taken between the look and the start; others then.
        for _ in 0..10 {
            let folder = tempfile::tempdir().expect("a folder");
            let (port, websocket) = (free_port(), free_port());
            options.write(&folder, port, websocket);
            let mut broker = Mosquitto { server: spawn(&folder), port, websocket, folder };
            if broker.is_up().await {
                return broker;
            }
        }
        panic!("mosquitto doesn't start, on any of ten ports");
    }

    /// As `mqtt://127.0.0.1:PORT`; the same after a restart.
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `ws://127.0.0.1:PORT`.
    pub fn websocket(&self) -> String {
        format!("ws://127.0.0.1:{}", self.websocket)
    }

    /// Ends it in order, and starts it again on the same ports and folder.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn restart(&mut self) {
        self.stop();
        self.server = spawn(&self.folder);
        assert!(self.is_up().await, "mosquitto doesn't start again");
    }

    /// Ends it in order; [`Self::restart`] starts it again.
    pub fn stop(&mut self) {
        if let Ok(None) = self.server.try_wait() {
            let pid = Pid::from_raw(i32::try_from(self.server.id()).expect("a process id"));
            let _ = kill(pid, Signal::SIGTERM);
            let _ = self.server.wait();
        }
    }

    /// Waits until it listens; false if it ended.
    async fn is_up(&mut self) -> bool {
        let (port, websocket) = (self.port, self.websocket);
        eventually("mosquitto listens", PATIENCE, || {
            let exited = self.server.try_wait().is_ok_and(|status| status.is_some());
            let listens = [port, websocket].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
            async move { if exited { Some(false) } else { listens.then_some(true) } }
        })
        .await
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn spawn(folder: &TempDir) -> Child {
    let log = fs::File::create(folder.path().join("mosquitto.log")).expect("a folder that can be written to");
    let is_there = |program: &&str| {
        let asked = Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status();
        !asked.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    let program = PROGRAMS
        .into_iter()
        .find(is_there)
        .unwrap_or_else(|| panic!("mosquitto is not installed: apt-get install -y --no-install-recommends mosquitto"));
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", program, "-c"])
        .arg(folder.path().join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("setpriv can't start: {error}; apt-get install -y util-linux"))
}
