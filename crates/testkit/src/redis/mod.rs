//! A real Redis for one test: its own server on its own folder, killed when the handle is dropped, or when the test's
//! process dies. Also three sentinels (`sentinel`), a cluster (`cluster`), and certificates (`certificates`).

mod certificates;
mod cluster;
mod process;
mod sentinel;
mod wire;

use std::{net::SocketAddr, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub use certificates::Certificates;
pub use cluster::RedisCluster;
pub use sentinel::{PRIMARY, RedisSentinels};

use crate::free_port;
use process::Process;

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

/// Who is let in by TLS. There is no port without it then.
#[derive(Clone, Debug)]
pub struct Tls {
    pub certificates: Certificates,
    /// Whether clients need a certificate of their own.
    pub mutual: bool,
}

#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    pub aof: Aof,
    /// One of version 8, which knows more than the system's 7.0: it can tell what is on disk.
    pub later: bool,
    /// More of its settings, as in `("maxmemory", "4mb")`.
    pub settings: Vec<(&'static str, String)>,
    /// TLS alone.
    pub tls: Option<Tls>,
    /// Users besides the default one, each as an ACL file has them: `shop on >secret ~tp:* +@all`; `default off` shuts
    /// out who doesn't log in.
    pub users: Vec<String>,
}

/// A running server, empty at first.
pub struct Redis {
    process: Process,
    port: u16,
    tls: bool,
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
    /// If redis-server, or the later one, is not installed (with the line that installs it) or doesn't start.
    pub async fn start(options: RedisOptions) -> Self {
        // A port can be taken between the look and the start; another one then.
        for _ in 0..10 {
            let port = free_port();
            let program = if options.later { process::later() } else { process::program() };
            if let Some(process) = Process::start(program, arguments(port, &options)).await {
                return Self { process, port, tls: options.tls.is_some() };
            }
        }
        panic!("redis-server doesn't start, on any of ten ports");
    }

    /// A replica of this server that has all of it already. It isn't told of the primary's users and TLS: those it shares
    /// by `options`.
    ///
    /// # Panics
    /// As [`Redis::start`]; if it doesn't reach this one.
    pub async fn replica(&self, options: RedisOptions) -> Self {
        self.replica_through(SocketAddr::from(([127, 0, 0, 1], self.port)), options).await
    }

    /// One that reaches this server by another address: that of a network that can fail.
    ///
    /// # Panics
    /// As [`Redis::replica`].
    pub async fn replica_through(&self, address: SocketAddr, mut options: RedisOptions) -> Self {
        options.settings.push(("replicaof", format!("{} {}", address.ip(), address.port())));
        // Without the pause in which a primary waits for more replicas to come.
        self.command(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        let replica = Self::start(options).await;
        replica.follows("up").await;
        // The primary counts it once it has said that it keeps up.
        let line = format!("port={},state=online", replica.port);
        crate::eventually(&line, process::PATIENCE, || async {
            self.command(&["INFO", "replication"]).contains(&line).then_some(())
        })
        .await;
        replica
    }

    /// Waits until this replica's link is `up`, or `down`.
    ///
    /// # Panics
    /// If that takes half a minute.
    pub async fn follows(&self, link: &str) {
        let line = format!("master_link_status:{link}");
        crate::eventually(&line, process::PATIENCE, || async {
            self.command(&["INFO", "replication"]).contains(&line).then_some(())
        })
        .await;
    }

    /// As `redis://127.0.0.1:PORT`; the same after a restart. `rediss://localhost:PORT` where there is TLS.
    pub fn url(&self) -> String {
        if self.tls { format!("rediss://localhost:{}", self.port) } else { format!("redis://127.0.0.1:{}", self.port) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps its files.
    pub fn folder(&self) -> &Path {
        self.process.folder()
    }

    /// What an operator might type, who may do everything; the answer as text, an array's parts a line each.
    ///
    /// # Panics
    /// If the server isn't there.
    pub fn command(&self, words: &[&str]) -> String {
        self.process.command(words).expect("redis-server answers")
    }

    /// Kills the server as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, on the same port and folder; kills it first if it still runs.
    ///
    /// # Panics
    /// If it doesn't start.
    pub async fn restart(&mut self) {
        assert!(self.try_restart().await, "redis-server doesn't start again: {}", self.process.log());
    }

    /// [`Redis::restart`], of one that may refuse to start: whether it did. What it says about it is in `redis.log`.
    pub async fn try_restart(&mut self) -> bool {
        self.process.restart().await
    }

    /// No file of the server may grow beyond so many bytes, as on a disk that is full; None: as far as it likes.
    ///
    /// # Panics
    /// If the server isn't there.
    pub fn limit_files(&self, bytes: Option<u64>) {
        self.process.limit_files(bytes);
    }

    /// The server's process.
    pub fn id(&self) -> u32 {
        self.process.id()
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
        let pid = i32::try_from(self.process.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("redis-server runs");
    }
}

fn arguments(port: u16, options: &RedisOptions) -> Vec<String> {
    let (appendonly, appendfsync) = match options.aof {
        Aof::Always => ("yes", "always"),
        Aof::EverySecond => ("yes", "everysec"),
        Aof::Off => ("no", "no"),
    };
    let mut arguments = words(&["--bind", "127.0.0.1", "--save", ""]);
    arguments.extend(words(&["--appendonly", appendonly, "--appendfsync", appendfsync]));
    match &options.tls {
        None => arguments.extend(words(&["--port", &port.to_string()])),
        Some(tls) => {
            let clients = if tls.mutual { "yes" } else { "no" };
            arguments.extend(words(&["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", clients]));
            arguments.extend(words(&["--tls-replication", "yes"]));
            for (name, path) in tls.certificates.of_the_server() {
                arguments.extend([format!("--{name}"), path.display().to_string()]);
            }
        }
    }
    for user in &options.users {
        arguments.push("--user".to_owned());
        arguments.extend(user.split_whitespace().map(str::to_owned));
    }
    for (name, value) in &options.settings {
        arguments.extend([format!("--{name}"), value.clone()]);
    }
    arguments
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_killed_server_has_what_it_wrote_when_it_is_started_again() {
        let mut redis = redis().await;
        redis.command(&["SET", "a", "1"]);
        redis.kill();
        assert!(TcpStream::connect(("127.0.0.1", redis.port)).is_err());
        redis.restart().await;
        assert_eq!(redis.command(&["GET", "a"]), "1");
    }

    #[tokio::test]
    async fn a_server_without_aof_forgets() {
        let mut redis = Redis::start(RedisOptions { aof: Aof::Off, ..RedisOptions::default() }).await;
        redis.command(&["SET", "a", "1"]);
        redis.restart().await;
        assert_eq!(redis.command(&["GET", "a"]), "");
    }

    #[tokio::test]
    async fn a_paused_server_answers_once_it_goes_on() {
        let redis = redis().await;
        redis.pause();
        assert!(!redis.process.answers());
        redis.resume();
        assert!(redis.process.answers());
        let port = redis.port;
        drop(redis);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }

    #[tokio::test]
    async fn a_full_disk_is_refused_until_there_is_room() {
        let options = RedisOptions { aof: Aof::EverySecond, ..RedisOptions::default() };
        let redis = Redis::start(options).await;
        redis.limit_files(Some(10));
        crate::eventually("it notices", process::PATIENCE, || async {
            redis.command(&["SET", "a", "1"]).contains("MISCONF").then_some(())
        })
        .await;
        redis.limit_files(None);
        crate::eventually("it goes on", process::PATIENCE, || async {
            (redis.command(&["SET", "a", "2"]) == "OK").then_some(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_replica_has_what_its_primary_has() {
        let primary = redis().await;
        primary.command(&["SET", "a", "1"]);
        let replica = primary.replica(RedisOptions::default()).await;
        assert_eq!(replica.command(&["GET", "a"]), "1");
        assert!(replica.command(&["SET", "b", "1"]).starts_with("READONLY"));
    }

    #[tokio::test]
    async fn an_operator_gets_in_where_others_need_a_certificate_and_a_password() {
        let tls = Tls { certificates: Certificates::make(), mutual: true };
        let users = vec!["default off".to_owned(), "shop on >secret ~tp:* &tp:* +@all -@dangerous +info".to_owned()];
        let redis = Redis::start(RedisOptions { tls: Some(tls), users, ..RedisOptions::default() }).await;
        assert!(redis.command(&["ACL", "LIST"]).contains("user shop on"));
        assert!(redis.url().starts_with("rediss://"));
    }
}
