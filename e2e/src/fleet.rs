//! The same system with each role a process of its own, on Redis and PostgreSQL: two gateways, two brokers, two product
//! services, one of each other role.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use testkit::eventually;

use crate::{Client, binary};

const OPERATOR: (&str, &str) = ("operator@turnpike.example", "a password for the operator");
const READY: Duration = Duration::from_secs(90);

/// Where the processes meet, and what else they are told.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    pub redis: String,
    pub database: String,
    /// `notifications` of the notifier's settings, as YAML; None: the defaults.
    pub notifications: Option<String>,
    /// Further environment of every process.
    pub environment: Vec<(String, String)>,
}

impl FleetOptions {
    pub fn new(redis: &str, database: &str) -> Self {
        Self { redis: redis.to_owned(), database: database.to_owned(), notifications: None, environment: Vec::new() }
    }
}

/// The processes. Dropped, they are killed.
pub struct Fleet {
    members: Vec<Member>,
    // Dropped last: the processes write into it.
    folder: TempDir,
}

/// One process.
struct Member {
    role: &'static str,
    /// 1, 2, …: which of several of the same role.
    number: usize,
    listen: Option<SocketAddr>,
    ops: SocketAddr,
    arguments: Vec<String>,
    environment: HashMap<String, String>,
    process: Option<Child>,
}

/// In the order they start: what is called before what calls it.
const ROLES: [(&str, usize); 11] = [
    ("product", 2),
    ("review", 1),
    ("customer", 1),
    ("cart", 1),
    ("invoice", 1),
    ("order", 1),
    ("logger", 1),
    ("notifier", 1),
    ("broker", 2),
    ("dashboard", 1),
    ("gateway", 2),
];

impl Fleet {
    /// Starts every process and waits until all are ready; answers what `demo.env` would say, too.
    pub async fn start(options: &FleetOptions) -> (Self, HashMap<String, String>) {
        let folder = tempfile::Builder::new().prefix("turnpike-fleet-").tempdir().unwrap();
        let mut members: Vec<Member> = ROLES
            .iter()
            .flat_map(|&(role, count)| (1..=count).map(move |number| (role, number)))
            .map(|(role, number)| Member::new(role, number))
            .collect();
        let key = api_key(folder.path());
        let addresses: HashMap<String, SocketAddr> =
            members.iter().filter_map(|member| Some((member.name(), member.listen?))).collect();
        let gateways: Vec<SocketAddr> =
            members.iter().filter(|member| member.role == "gateway").map(|member| member.ops).collect();
        for member in &mut members {
            member.wire(options, folder.path(), &addresses, &gateways);
        }
        let mut fleet = Self { members, folder };
        let everyone: Vec<String> = fleet.members.iter().map(Member::name).collect();
        for name in &everyone {
            fleet.spawn(name);
        }
        for name in &everyone {
            fleet.ready(name).await;
        }
        let url = |name: &str| format!("http://{}", addresses[name]);
        let environment = [
            ("DEMO_URL", url("gateway/1")),
            ("DEMO_URL_2", url("gateway/2")),
            ("DEMO_API_KEY", key),
            ("DEMO_OPERATOR_EMAIL", OPERATOR.0.to_owned()),
            ("DEMO_OPERATOR_PASSWORD", OPERATOR.1.to_owned()),
        ];
        (fleet, environment.map(|(name, value)| (name.to_owned(), value)).into())
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every process, as `broker/2`.
    pub fn names(&self) -> Vec<String> {
        self.members.iter().map(Member::name).collect()
    }

    /// The ops listener of a role's first process, or of this one (`broker/2`).
    pub fn ops(&self, role: &str) -> Client {
        let member = self.members.iter().find(|member| member.role == role || member.name() == role);
        Client::new(&format!("http://{}", member.unwrap_or_else(|| panic!("no {role}")).ops))
    }

    /// The ops listener of every process.
    pub fn ops_urls(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://{}", member.ops)).collect()
    }

    /// Where a process serves.
    pub fn address(&self, name: &str) -> SocketAddr {
        let member = self.members.iter().find(|member| member.name() == name);
        member.and_then(|member| member.listen).unwrap_or_else(|| panic!("{name} has no address"))
    }

    /// The processes of a role, or the one of this name.
    fn of(&self, role: &str) -> Vec<String> {
        let members = self.members.iter().filter(|member| member.role == role || member.name() == role);
        members.map(Member::name).collect()
    }

    /// Asks the processes of a role (or `broker/2` alone) to stop, and waits for them.
    pub async fn stop(&mut self, role: &str) {
        for name in self.of(role) {
            let Some(mut process) = self.member(&name).process.take() else { continue };
            kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGTERM).unwrap();
            let status = eventually(&format!("{name} stops"), Duration::from_secs(20), || {
                let ended = process.try_wait().unwrap();
                async move { ended }
            })
            .await;
            assert!(status.success(), "{name} stopped with {status}:\n{}", self.log_tail(&name));
        }
    }

    /// Kills them as `kill -9` does.
    pub fn kill(&mut self, role: &str) {
        for name in self.of(role) {
            self.member(&name).kill();
        }
    }

    /// Has them stand still (SIGSTOP): connections stay open and nothing is answered.
    pub fn pause(&mut self, role: &str) {
        self.signal(role, Signal::SIGSTOP);
    }

    /// Lets them go on.
    pub fn resume(&mut self, role: &str) {
        self.signal(role, Signal::SIGCONT);
    }

    fn signal(&mut self, role: &str, signal: Signal) {
        for name in self.of(role) {
            let Some(process) = &self.member(&name).process else { continue };
            kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), signal).unwrap();
        }
    }

    /// Starts them again and waits until they are ready.
    pub async fn restart(&mut self, role: &str) {
        let names = self.of(role);
        names.iter().for_each(|name| self.spawn(name));
        for name in names {
            self.ready(&name).await;
        }
    }

    fn member(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.name() == name).unwrap()
    }

    fn spawn(&mut self, name: &str) {
        let log = self.log(name);
        let member = self.member(name);
        if member.process.is_none() {
            let log = fs::File::options().create(true).append(true).open(log).unwrap();
            member.process = Some(member.command().stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        }
    }

    async fn ready(&mut self, name: &str) {
        let ops = self.ops(name);
        let log = self.log(name);
        let process = self.member(name).process.as_mut().unwrap();
        eventually(&format!("{name} is ready"), READY, || {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("{name} ended with {status}:\n{}", tail(&log));
            }
            let asked = ops.try_send(hyper::Method::GET, "/readyz", None);
            async move { asked.await.is_ok_and(|answer| answer.status.is_success()).then_some(()) }
        })
        .await;
    }

    fn log(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("{}.log", name.replace('/', "-")))
    }

    pub fn log_tail(&self, name: &str) -> String {
        tail(&self.log(name))
    }

    /// The ends of all logs.
    pub fn log_tails(&self) -> String {
        self.names().iter().map(|name| format!("--- {name}\n{}\n", self.log_tail(name))).collect()
    }
}

impl Member {
    fn new(role: &'static str, number: usize) -> Self {
        let listens = !matches!(role, "logger" | "notifier");
        Self {
            role,
            number,
            listen: listens.then(free_address),
            ops: free_address(),
            arguments: Vec::new(),
            environment: HashMap::new(),
            process: None,
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.role, self.number)
    }

    /// Tells it where everything is.
    fn wire(
        &mut self,
        options: &FleetOptions,
        folder: &Path,
        addresses: &HashMap<String, SocketAddr>,
        gateways: &[SocketAddr],
    ) {
        let secret = folder.join("root.secret").display().to_string();
        let mut environment: HashMap<String, String> = options.environment.iter().cloned().collect();
        let mut set = |name: &str, value: String| drop(environment.insert(name.to_owned(), value));
        set("TURNPIKE__ROOT_SECRET", secret);
        set("TURNPIKE__OPS", self.ops.to_string());
        let at = |name: &str| addresses[name].to_string();
        if self.role == "gateway" {
            set("GATEWAY_ADDRESS", self.listen.unwrap().to_string());
            // Nobody stands in front of it who would have to hear of its leaving.
            set("TURNPIKE__SERVE_ON", "0s".to_owned());
            set("KEYS_FILE", folder.join("keys.yaml").display().to_string());
            set("REDIS", options.redis.clone());
            for name in ["product/1", "product/2", "broker/1", "broker/2"] {
                set(&name.to_uppercase().replace('/', "_"), at(name));
            }
            for role in ["review", "customer", "cart", "order", "invoice", "dashboard"] {
                set(&role.to_uppercase(), at(&format!("{role}/1")));
            }
            self.arguments = vec!["--cores".to_owned(), "1".to_owned()];
        } else {
            set("TURNPIKE__BUS__REDIS", options.redis.clone());
            set("TURNPIKE__DATABASE", options.database.clone());
            set("TURNPIKE__DRAIN", "5s".to_owned());
            if let Some(listen) = self.listen {
                set("TURNPIKE__LISTEN", listen.to_string());
            }
        }
        match self.role {
            "product" | "review" => set("TURNPIKE__DEMO", "true".to_owned()),
            "customer" => {
                set("TURNPIKE__DEMO", "true".to_owned());
                set("TURNPIKE__OPERATOR__EMAIL", OPERATOR.0.to_owned());
                set("TURNPIKE__OPERATOR__PASSWORD", OPERATOR.1.to_owned());
            }
            "order" => {
                set("TURNPIKE__UPSTREAMS__CART", format!("[\"{}\"]", at("cart/1")));
                set("TURNPIKE__UPSTREAMS__PRODUCT", format!("[\"{}\", \"{}\"]", at("product/1"), at("product/2")));
                set("TURNPIKE__UPSTREAMS__INVOICE", format!("[\"{}\"]", at("invoice/1")));
            }
            "dashboard" => {
                let gateways: Vec<String> = gateways.iter().map(|ops| format!("\"http://{ops}\"")).collect();
                set("TURNPIKE__GATEWAYS", format!("[{}]", gateways.join(", ")));
            }
            "notifier" => {
                if let Some(notifications) = &options.notifications {
                    set("TURNPIKE__NOTIFICATIONS", notifications.clone());
                }
            }
            _ => {}
        }
        self.environment = environment;
    }

    fn command(&self) -> Command {
        // The process ends with the test, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(binary())
            .arg(self.role)
            .args(&self.arguments)
            .envs(&self.environment)
            .env_remove("TURNPIKE_ABORT_AT")
            .stdin(Stdio::null());
        command
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(Member::kill);
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], testkit::free_port()))
}

fn api_key(folder: &Path) -> String {
    let arguments = ["key", "new", "--subject", "customers/demo", "--scope", "shop", "--file"];
    let made = Command::new(binary()).args(arguments).arg(folder.join("keys.yaml")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn tail(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
