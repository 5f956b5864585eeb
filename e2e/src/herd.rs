//! Instances of one service as processes of their own, each behind a network that fails, and a gateway before them all.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use testkit::{FaultProxy, eventually};

use crate::{Client, binary};

const READY: Duration = Duration::from_secs(90);

/// The processes. Dropped, they are killed.
pub struct Herd {
    instances: Vec<Instance>,
    gateway: Process,
    address: SocketAddr,
    // Dropped last: the processes write into it.
    folder: TempDir,
}

/// One instance and the network before it.
struct Instance {
    process: Process,
    proxy: FaultProxy,
}

struct Process {
    name: String,
    ops: SocketAddr,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Herd {
    /// Starts so many product services with the demo's catalogue, and a gateway whose upstream `product` they are, with
    /// these keys beside its endpoints.
    pub async fn start(count: usize, redis: &str, upstream: &str, seed: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("turnpike-herd-").tempdir().unwrap();
        let secret = folder.path().join("root.secret").display().to_string();
        let mut instances = Vec::new();
        for number in 1..=count {
            let name = format!("product-{number}");
            let listen = free_address();
            let mut process = Process::new(&name, &folder, vec!["product".to_owned()]);
            process.environment.extend([
                ("TURNPIKE__ROOT_SECRET", secret.clone()),
                ("TURNPIKE__LISTEN", listen.to_string()),
                ("TURNPIKE__DATABASE", format!("sqlite:{}", folder.path().join(format!("{name}.db")).display())),
                ("TURNPIKE__BUS__REDIS", redis.to_owned()),
                ("TURNPIKE__DEMO", "true".to_owned()),
            ]);
            let proxy = FaultProxy::start(listen, seed ^ number as u64).await;
            instances.push(Instance { process, proxy });
        }
        let address = free_address();
        let endpoints: Vec<_> = instances.iter().map(|instance| format!("'{}'", instance.proxy.address())).collect();
        let config = folder.path().join("gateway.yaml");
        let text = format!(
            "listeners: [{{address: '{address}'}}]\naccess_log: false\nupstreams:\n  product:\n    \
             endpoints: [{}]\n    protocol: grpc\n    descriptors: shop\n    {}\nroutes:\n  \
             - {{grpc: shop.product.v1.ProductService, upstream: product}}\n",
            endpoints.join(", "),
            upstream.replace('\n', "\n    "),
        );
        fs::write(&config, text).unwrap();
        let arguments = ["gateway", "--cores", "1", "--config"].map(str::to_owned);
        let arguments = arguments.into_iter().chain([config.display().to_string()]).collect();
        let mut gateway = Process::new("gateway", &folder, arguments);
        gateway.environment.extend([("TURNPIKE__ROOT_SECRET", secret), ("TURNPIKE__SERVE_ON", "0s".to_owned())]);

        let mut herd = Self { instances, gateway, address, folder };
        // One first: it makes the secret that all share.
        herd.restart(0).await;
        herd.instances.iter_mut().for_each(|instance| instance.process.spawn());
        for instance in &mut herd.instances {
            instance.process.ready().await;
        }
        herd.gateway.spawn();
        herd.gateway.ready().await;
        herd
    }

    /// A client of the gateway.
    pub fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address))
    }

    /// A client of the gateway's ops listener.
    pub fn ops(&self) -> Client {
        Client::new(&format!("http://{}", self.gateway.ops))
    }

    /// The network before an instance.
    pub fn proxy(&self, number: usize) -> &FaultProxy {
        &self.instances[number].proxy
    }

    /// How often each has answered this method of gRPC since it was started; 0 of one that doesn't answer now.
    pub async fn answered(&self, method: &str) -> Vec<u64> {
        let mut counts = Vec::new();
        for instance in &self.instances {
            let page = Client::new(&format!("http://{}", instance.process.ops));
            let page = page.try_send(hyper::Method::GET, "/metrics", None).await;
            counts.push(page.map_or(0, |page| sum(&page.text(), "turnpike_grpc_requests_total", method)));
        }
        counts
    }

    /// As `kill -9` does.
    pub fn kill(&mut self, number: usize) {
        self.instances[number].process.kill();
    }

    pub async fn restart(&mut self, number: usize) {
        let process = &mut self.instances[number].process;
        process.spawn();
        process.ready().await;
    }

    /// Starts it again; when it is ready is for others to find out.
    pub fn begin_restart(&mut self, number: usize) {
        self.instances[number].process.spawn();
    }

    /// Has it stand still (SIGSTOP): its connections stay open and nothing is answered.
    pub fn pause(&self, number: usize) {
        self.instances[number].process.signal(Signal::SIGSTOP);
    }

    pub fn resume(&self, number: usize) {
        self.instances[number].process.signal(Signal::SIGCONT);
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let processes = self.instances.iter().map(|instance| &instance.process).chain([&self.gateway]);
            for process in processes {
                eprintln!("--- {}\n{}", process.name, process.log_tail());
            }
            eprintln!("all of it was in {}", self.folder.path().display());
        }
        self.instances.iter_mut().for_each(|instance| instance.process.kill());
        self.gateway.kill();
    }
}

impl Process {
    fn new(name: &str, folder: &TempDir, arguments: Vec<String>) -> Self {
        let ops = free_address();
        Self {
            name: name.to_owned(),
            ops,
            arguments,
            environment: vec![("TURNPIKE__OPS", ops.to_string())],
            log: folder.path().join(format!("{name}.log")),
            child: None,
        }
    }

    fn spawn(&mut self) {
        if self.child.is_some() {
            return;
        }
        let log = fs::File::options().create(true).append(true).open(&self.log).unwrap();
        // The process ends with the test, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(binary())
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    async fn ready(&mut self) {
        let ops = Client::new(&format!("http://{}", self.ops));
        let child = self.child.as_mut().unwrap();
        eventually(&format!("{} is ready", self.name), READY, || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{} ended with {status}:\n{}", self.name, log_tail(&self.log));
            }
            let asked = ops.try_send(hyper::Method::GET, "/readyz", None);
            async move { asked.await.is_ok_and(|answer| answer.status.is_success()).then_some(()) }
        })
        .await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn log_tail(&self) -> String {
        log_tail(&self.log)
    }
}

/// The sum of a metric's series whose labels hold this text.
pub fn sum(page: &str, metric: &str, label: &str) -> u64 {
    let series = page.lines().filter(|line| line.starts_with(metric) && line.contains(label));
    let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole and not negative")]
    values.map(|value| value as u64).sum()
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], testkit::free_port()))
}

fn log_tail(log: &std::path::Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
