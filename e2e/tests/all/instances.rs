//! Instances that announce themselves: no address of theirs stands in any configuration.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use e2e::{Client, binary};
use hyper::Method;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use testkit::{eventually, free_port};
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(60);

struct Process {
    name: String,
    child: Child,
    ops: Client,
    address: String,
    log: PathBuf,
}

impl Process {
    fn start(name: &str, folder: &TempDir, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let (listen, ops) = (free_port(), free_port());
        let address = format!("127.0.0.1:{listen}");
        let path = folder.path().join(format!("{name}.log"));
        let log = File::create(&path).unwrap();
        // The process ends with the test, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(binary())
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("TURNPIKE__ROOT_SECRET", folder.path().join("root.secret"))
            .env("TURNPIKE__OPS", format!("127.0.0.1:{ops}"))
            .env("TURNPIKE__LISTEN", &address)
            .env("GATEWAY_ADDRESS", &address)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let ops = Client::new(&format!("http://127.0.0.1:{ops}"));
        Self { name: name.to_owned(), child, ops, address, log: path }
    }

    /// A product service of its own database, announced.
    fn product(number: usize, folder: &TempDir, redis: &str) -> Self {
        let name = format!("product-{number}");
        let database = folder.path().join(format!("{name}.db"));
        let environment = [
            ("TURNPIKE__BUS__REDIS", redis.to_owned()),
            ("TURNPIKE__DATABASE", format!("sqlite:{}", database.display())),
            ("TURNPIKE__DEMO", "true".to_owned()),
            ("TURNPIKE__ANNOUNCE__ENABLED", "true".to_owned()),
        ];
        Self::start(&name, folder, &["product"], &environment)
    }

    async fn ready(&self) {
        eventually(&format!("{} is ready", self.name), SOON, || async {
            let answer = self.ops.try_send(Method::GET, "/readyz", None).await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await;
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.name, fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// Three clients, as many as may always try again at once, that read the catalogue, one request after the other.
struct Shoppers {
    ended: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Shoppers {
    fn start(gateway: &str) -> Self {
        let (ended, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let shopper = |_| {
            let (ended, answered, client) =
                (Arc::clone(&ended), Arc::clone(&answered), Client::new(gateway).with("cache-control", "no-cache"));
            tokio::spawn(async move {
                while !ended.load(SeqCst) {
                    client.get("/products").await.expect(200);
                    answered.fetch_add(1, SeqCst);
                }
            })
        };
        let tasks = (0..3).map(shopper).collect();
        Self { ended, answered, tasks }
    }

    /// Waits until so many more are answered.
    async fn go_on(&self, requests: usize) {
        let then = self.answered.load(SeqCst) + requests;
        eventually("the catalogue is read", SOON, || async { (self.answered.load(SeqCst) >= then).then_some(()) })
            .await;
    }

    async fn end(self) {
        self.ended.store(true, SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Waits until the gateway sends to these and no others. Returns how long that took.
async fn until_called(gateway: &Process, instances: &[&Process]) -> Duration {
    let began = Instant::now();
    let mut wanted: Vec<_> = instances.iter().map(|instance| instance.address.clone()).collect();
    wanted.sort();
    loop {
        let endpoints = gateway.ops.get("/upstreams").await.expect(200).json()["upstreams"]["product"].clone();
        let there = endpoints.as_array().unwrap().iter().filter(|endpoint| endpoint["draining"] == false);
        let mut there: Vec<_> = there.map(|endpoint| endpoint["address"].as_str().unwrap().to_owned()).collect();
        there.sort();
        if there == wanted {
            return began.elapsed();
        }
        assert!(began.elapsed() < SOON, "{there:?}, and not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_called_from_when_they_serve_until_they_leave() {
    let redis = testkit::redis().await;
    let folder = tempfile::tempdir().unwrap();
    // One first: it makes the secret that all share.
    let one = Process::product(1, &folder, &redis.url());
    one.ready().await;
    let config = folder.path().join("gateway.yaml");
    let text = format!(
        "listeners:\n- address: ${{GATEWAY_ADDRESS}}\naccess_log: false\nshared: {{redis: '{}'}}\n\
         upstreams: {{product: {{endpoints: ['registry://product'], protocol: grpc, descriptors: shop}}}}\n\
         routes: [{{grpc: shop.product.v1.ProductService, upstream: product}}]\n",
        redis.url()
    );
    fs::write(&config, text).unwrap();
    let arguments = ["gateway", "--cores", "1", "--config", config.to_str().unwrap()];
    let gateway = Process::start("gateway", &folder, &arguments, &[("TURNPIKE__SERVE_ON", "0s".to_owned())]);
    gateway.ready().await;
    until_called(&gateway, &[&one]).await;
    let shown = gateway.ops.get("/upstreams").await.expect(200).json();
    assert_eq!(shown["upstreams"]["product"][0]["source"], "registry://product");
    assert_eq!(shown["upstreams"]["product"][0]["metadata"]["process"], one.child.id().to_string());
    assert_eq!(shown["sources"]["product"][0]["error"], serde_json::Value::Null);

    let shoppers = Shoppers::start(&format!("http://{}", gateway.address));
    shoppers.go_on(20).await;
    let two = Process::product(2, &folder, &redis.url());
    until_called(&gateway, &[&one, &two]).await;
    shoppers.go_on(20).await;

    // In order: at once, and no request fails.
    let mut one = one;
    one.signal(Signal::SIGTERM);
    let left = until_called(&gateway, &[&two]).await;
    eventually("it has ended", SOON, || {
        let ended = one.child.try_wait().unwrap();
        async move { ended }
    })
    .await;
    shoppers.go_on(20).await;

    // By kill -9: when it has been silent for its lifetime, and till then requests are tried again elsewhere.
    let three = Process::product(3, &folder, &redis.url());
    until_called(&gateway, &[&two, &three]).await;
    two.signal(Signal::SIGKILL);
    let killed = until_called(&gateway, &[&three]).await;
    shoppers.go_on(20).await;
    shoppers.end().await;
    println!("an instance that left was called no more after {left:?}, a killed one was gone after {killed:?}");
}
