//! A running system: `turnpike up` as a child process on a data folder of its own, or a process for each role.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::eventually;

use crate::{Client, FleetOptions, fleet::Fleet};

/// How a system is started.
#[derive(Clone, Default)]
pub struct Options {
    /// `postgres://…` instead of SQLite files.
    pub database: Option<String>,
    /// The step at which the process kills itself.
    pub abort_at: Option<&'static str>,
    /// Further arguments of `turnpike up`.
    pub arguments: Vec<String>,
}

/// A running system. Dropped, it is killed.
pub struct System {
    environment: HashMap<String, String>,
    processes: Processes,
}

enum Processes {
    One(Up),
    /// One for each role.
    Many(Fleet),
}

/// `turnpike up`.
struct Up {
    process: Child,
    folder: Arc<TempDir>,
    options: Options,
}

impl System {
    /// Starts a system on a new data folder and waits until it is ready.
    pub async fn start(options: Options) -> Self {
        let folder = tempfile::Builder::new().prefix("turnpike-e2e-").tempdir().unwrap();
        Self::start_in(Arc::new(folder), options).await
    }

    async fn start_in(folder: Arc<TempDir>, options: Options) -> Self {
        let env = folder.path().join("demo.env");
        let _ = fs::remove_file(&env);
        let log = fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let mut command = Command::new(binary());
        command
            .args(["up", "--port", "0", "--ops-port", "0", "--data-dir"])
            .arg(folder.path())
            .args(&options.arguments)
            .env_remove("TURNPIKE_ABORT_AT")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(database) = &options.database {
            command.args(["--database", database]);
        }
        if let Some(point) = options.abort_at {
            command.env("TURNPIKE_ABORT_AT", point);
        }
        let mut process = command.spawn().expect("turnpike starts");
        let environment = eventually("turnpike writes demo.env", Duration::from_secs(60), || {
            let ended = process.try_wait().unwrap();
            // A process with an abort point may reach it before it is ready.
            if let Some(status) = ended.filter(|_| options.abort_at.is_none()) {
                panic!("turnpike ended with {status}:\n{}", tail(folder.path()));
            }
            let written = fs::read_to_string(&env).ok().or(ended.map(|_| String::new()));
            async move { written.map(|text| parse_env(&text)) }
        })
        .await;
        let mut system = Self { environment, processes: Processes::One(Up { process, folder, options }) };
        system.ready().await;
        system
    }

    /// Starts each role as a process of its own and waits until all are ready.
    pub async fn start_fleet(options: &FleetOptions) -> Self {
        let (fleet, environment) = Fleet::start(options).await;
        Self { environment, processes: Processes::Many(fleet) }
    }

    fn up(&self) -> &Up {
        match &self.processes {
            Processes::One(up) => up,
            Processes::Many(_) => panic!("there is no process of all roles"),
        }
    }

    fn up_mut(&mut self) -> &mut Up {
        match &mut self.processes {
            Processes::One(up) => up,
            Processes::Many(_) => panic!("there is no process of all roles"),
        }
    }

    /// The processes of their own.
    ///
    /// # Panics
    /// If all roles are in one.
    pub fn fleet(&mut self) -> &mut Fleet {
        match &mut self.processes {
            Processes::One(_) => panic!("all roles are in one process"),
            Processes::Many(fleet) => fleet,
        }
    }

    /// Waits until every role is ready, or the process has reached its abort point.
    async fn ready(&mut self) {
        let Some(url) = self.environment.get("DEMO_OPS_URL") else { return };
        let ops = Client::new(url);
        let process = &mut self.up_mut().process;
        eventually("the system is ready", Duration::from_secs(60), || {
            let ended = process.try_wait().unwrap().is_some();
            let asked = ops.try_send(hyper::Method::GET, "/readyz", None);
            async move { (ended || asked.await.is_ok_and(|answer| answer.status.is_success())).then_some(()) }
        })
        .await;
    }

    /// What `demo.env` says.
    pub fn env(&self, name: &str) -> &str {
        self.environment.get(name).unwrap_or_else(|| panic!("no {name} in demo.env"))
    }

    /// A client of the gateway that says nothing of itself.
    pub fn anonymous(&self) -> Client {
        Client::new(self.env("DEMO_URL"))
    }

    /// A client with the demo's API key.
    pub fn demo(&self) -> Client {
        self.anonymous().with("x-api-key", self.env("DEMO_API_KEY"))
    }

    /// A client of a role's ops listener.
    pub fn ops_of(&self, role: &str) -> Client {
        match &self.processes {
            Processes::One(_) => Client::new(self.env("DEMO_OPS_URL")),
            Processes::Many(fleet) => fleet.ops(role),
        }
    }

    /// A client of the ops listener of all roles in one process.
    pub fn ops(&self) -> Client {
        Client::new(self.env("DEMO_OPS_URL"))
    }

    /// A client with the session of the demo's operator.
    pub async fn operator(&self) -> Client {
        self.log_in(self.env("DEMO_OPERATOR_EMAIL"), self.env("DEMO_OPERATOR_PASSWORD")).await
    }

    /// A client with the session of a new account.
    pub async fn customer(&self, email: &str) -> Client {
        let password = "correct horse battery";
        let account = json!({"email": email, "password": password, "name": "A Customer"});
        self.anonymous().post("/accounts", account).await.expect(201);
        self.log_in(email, password).await
    }

    pub async fn log_in(&self, email: &str, password: &str) -> Client {
        self.try_log_in(email, password).await.expect("the log-in succeeds")
    }

    /// None where nobody answers, as after an abort.
    pub async fn try_log_in(&self, email: &str, password: &str) -> Option<Client> {
        let gateway = Client::new(self.environment.get("DEMO_URL")?);
        let credentials = json!({"email": email, "password": password});
        let answer = gateway.try_send(hyper::Method::POST, "/session", Some(credentials)).await.ok()?.expect(201);
        let cookie = answer.header("set-cookie").expect("a session cookie");
        Some(gateway.with("cookie", cookie.split(';').next().unwrap()))
    }

    /// Stops or starts a role, or one instance of it (`product/2`).
    pub async fn change(&mut self, role: &str, change: &str) {
        match (&mut self.processes, change) {
            (Processes::One(_), _) => {
                self.ops().send(hyper::Method::POST, &format!("/roles/{role}/{change}"), None).await.expect(200);
            }
            (Processes::Many(fleet), "stop") => fleet.stop(role).await,
            (Processes::Many(fleet), _) => fleet.restart(role).await,
        }
    }

    /// Kills the process at once, as kill -9 does, and starts it again on the same folder, with this abort point.
    pub async fn kill_and_restart(mut self, abort_at: Option<&'static str>) -> Self {
        self.kill();
        self.restart(abort_at).await
    }

    /// Waits for the process to end by itself, as its abort point has it.
    pub async fn aborted(&mut self, point: &str) {
        let process = &mut self.up_mut().process;
        eventually(&format!("the process dies at {point}"), Duration::from_secs(60), || {
            let ended = process.try_wait().unwrap();
            async move { ended }
        })
        .await;
    }

    async fn restart(mut self, abort_at: Option<&'static str>) -> Self {
        self.kill();
        let options = Options { abort_at, ..self.up().options.clone() };
        let folder = self.up().folder.clone();
        drop(self);
        Self::start_in(folder, options).await
    }

    pub fn kill(&mut self) {
        if let Processes::One(up) = &mut self.processes {
            let _ = up.process.kill();
            let _ = up.process.wait();
        }
    }

    /// Asks the process to stop; answers whether it did so well, and within this bound.
    pub async fn terminate(&mut self, bound: Duration) -> bool {
        let process = &mut self.up_mut().process;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = eventually("the process ends", bound, || {
            let ended = process.try_wait().unwrap();
            async move { ended }
        })
        .await;
        status.success()
    }

    pub fn folder(&self) -> &Path {
        match &self.processes {
            Processes::One(up) => up.folder.path(),
            Processes::Many(fleet) => fleet.folder(),
        }
    }

    /// The last lines of its log, for a failure's message.
    pub fn log_tail(&self) -> String {
        match &self.processes {
            Processes::One(up) => tail(up.folder.path()),
            Processes::Many(fleet) => fleet.log_tails(),
        }
    }

    /// Waits until an order is no longer pending.
    pub async fn settled(&self, client: &Client, order: &str) -> Value {
        eventually("the order is confirmed or rejected", Duration::from_secs(60), || async {
            let order = client.get(&format!("/orders/{order}")).await.expect(200).json();
            (order["status"] != "pending").then_some(order)
        })
        .await
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the end of turnpike's log:\n{}", self.log_tail());
        }
    }
}

/// The executable under test: built beside this test.
///
/// # Panics
/// If it isn't there.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("turnpike");
    assert!(binary.exists(), "{} is missing: cargo build --workspace", binary.display());
    binary
}

fn parse_env(text: &str) -> HashMap<String, String> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn tail(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
