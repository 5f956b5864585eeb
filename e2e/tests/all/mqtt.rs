//! A page sends messages to Mosquitto over WebSocket; of two dispatchers one takes them, stands still in the midst of it and goes
//! on; each message becomes one job; three workers share them, of which one dies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use e2e::{Client, Options, System};
use serde_json::{Value, json};
use testkit::{Mosquitto, browser, eventually, mosquitto};
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(90);
const MESSAGES: u64 = 60;

/// As little of MQTT 5 as a page needs to publish with QoS 1: `send(number)` resolves once the broker has the message.
const PAGE: &str = r#"
window.ready = new Promise((resolve, reject) => {
  const text = (s) => { const b = new TextEncoder().encode(s); return [b.length >> 8, b.length & 255, ...b]; };
  const packet = (type, body) => {
    const length = [];
    let left = body.length;
    do { length.push((left & 127) | (left > 127 ? 128 : 0)); left >>= 7; } while (left > 0);
    return new Uint8Array([type, ...length, ...body]);
  };
  const socket = new WebSocket("WHERE", ["mqtt"]);
  socket.binaryType = "arraybuffer";
  const waiting = new Map();
  socket.onerror = () => reject(new Error("the broker can't be reached"));
  socket.onopen = () => socket.send(packet(0x10, [...text("MQTT"), 5, 2, 0, 60, 0, ...text("page")]));
  socket.onmessage = ({ data }) => {
    const bytes = new Uint8Array(data);
    if (bytes[0] === 0x20) resolve(true);
    if (bytes[0] === 0x40) { const id = bytes[2] << 8 | bytes[3]; waiting.get(id)(); waiting.delete(id); }
  };
  window.send = (number) => new Promise((sent) => {
    waiting.set(number, sent);
    const payload = new TextEncoder().encode(JSON.stringify({ number }));
    socket.send(packet(0x32, [...text("devices/kettle"), number >> 8, number & 255, 0, ...payload]));
  });
});
"#;

/// `turnpike mqtt` as a process; it ends with the handle.
struct Dispatcher(Child);

impl Dispatcher {
    fn start(redis: &str, broker: &Mosquitto, folder: &Path, number: u16) -> Self {
        let file = folder.join(format!("mqtt-{number}.yaml"));
        let (url, ops) = (broker.url(), testkit::free_port());
        let settings = format!(
            "role: mqtt\nops: 127.0.0.1:{ops}\nbus: {{redis: '{redis}'}}\nroot_secret: {}\nmqtt:\n  url: {url}\n  inbound:\n  - \
             {{ topic: devices/+, to: DEVICES/SAID, subject: 'devices/{{1}}' }}\n",
            folder.join("root.secret").display()
        );
        fs::write(&file, settings).unwrap();
        let log = fs::File::create(folder.join(format!("mqtt-{number}.log"))).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(e2e::binary())
            .args(["mqtt", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A key for workers, and for who looks at jobs.
fn key(system: &System) -> String {
    let file = system.folder().join("keys.yaml");
    let scopes = "jobs:read,jobs:write,events:consume:jobs.boil.*";
    let made = Command::new(e2e::binary())
        .args(["key", "new", "--subject", "services/kettles", "--scope", scopes, "--file"])
        .arg(file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Takes tasks until it is dropped, and acknowledges those that it may.
fn work(client: Client, name: &'static str, done: Arc<tokio::sync::Mutex<Vec<(&'static str, u64)>>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let ask = json!({"kinds": ["boil"], "wait": "5s", "worker": name, "max": 2});
            let answer = client.post("/jobs/claim", ask).await.expect(200).json();
            for task in answer["tasks"].as_array().unwrap() {
                let number = task["payload"]["data"]["number"].as_u64().unwrap();
                let path = format!("/deliveries/{}/ack", task["token"].as_str().unwrap());
                let settled = client.post(&path, json!({"result": {"boiled": number}})).await;
                if settled.status.is_success() {
                    done.lock().await.push((name, number));
                }
            }
        }
    })
}

async fn jobs(client: &Client) -> Vec<Value> {
    let mut all = Vec::new();
    let mut path = "/jobs?kind=boil&limit=1000".to_owned();
    loop {
        let page = client.get(&path).await.expect(200).json();
        all.extend(page["jobs"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => path = format!("/jobs?kind=boil&limit=1000&after={next}"),
            None => return all,
        }
    }
}

#[tokio::test]
async fn each_message_of_a_page_is_one_job_whoever_stands_still_or_dies() {
    let (broker, redis) = tokio::join!(mosquitto(), testkit::redis());
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("up.yaml");
    fs::write(&settings, "jobs:\n- { filter: 'DEVICES/*', kind: boil }\n").unwrap();
    // Whoever polls asks more often than a hundred times a minute.
    let gateway = folder.path().join("gateway.yaml");
    let shop = include_str!("../../../deploy/gateway.yaml");
    fs::write(&gateway, shop.replace("requests: 100, per: 1m", "requests: 100000, per: 1m")).unwrap();
    let arguments = [
        "--redis",
        &redis.url(),
        "--config",
        &settings.display().to_string(),
        "--gateway-config",
        &gateway.display().to_string(),
    ]
    .map(str::to_owned);
    let system = System::start(Options { arguments: arguments.to_vec(), ..Options::default() }).await;
    let client = Client::new(system.env("DEMO_URL")).with("x-api-key", &key(&system));

    let first = Dispatcher::start(&redis.url(), &broker, folder.path(), 1);
    let log = folder.path().join("mqtt-1.log");
    eventually("the first dispatcher takes messages", SOON, async || {
        fs::read_to_string(&log).ok()?.contains("connected to the MQTT broker").then_some(())
    })
    .await;
    let _second = Dispatcher::start(&redis.url(), &broker, folder.path(), 2);

    let mut page = browser().await;
    page.evaluate(&PAGE.replace("WHERE", &broker.websocket())).await;
    let mut send = async |numbers: std::ops::RangeInclusive<u64>| {
        let list = numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        let script =
            format!("(async () => {{ await ready; for (const n of [{list}]) await send(n); return true; }})()");
        assert_eq!(page.evaluate(&script).await, json!(true));
    };
    send(1..=20).await;
    // A job that nobody works on yet says so.
    let pending = eventually("a job is there", SOON, async || jobs(&client).await.pop()).await;
    let id = pending["id"].as_str().unwrap().to_owned();
    assert_eq!(client.get(&format!("/jobs/{id}")).await.expect(200).json()["state"], "pending");

    first.signal("-STOP");
    send(21..=40).await;
    let all = |wanted: usize| {
        let client = client.clone();
        async move { (jobs(&client).await.len() >= wanted).then_some(()) }
    };
    eventually("the second one takes over", SOON, || all(40)).await;
    first.signal("-CONT");
    send(41..=MESSAGES).await;

    let done = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let workers: Vec<_> = ["w1", "w2", "w3"].map(|name| work(client.clone(), name, done.clone())).into();
    // One that takes tasks, and dies with them.
    let ask = json!({"kinds": ["boil"], "wait": "20s", "worker": "w4", "max": 2});
    let taken = client.post("/jobs/claim", ask).await.expect(200).json();
    let held: Vec<String> =
        taken["tasks"].as_array().unwrap().iter().map(|task| task["job"].as_str().unwrap().to_owned()).collect();
    for id in &held {
        let state = client.get(&format!("/jobs/{id}")).await.expect(200).json()["state"].clone();
        assert!(["running", "retrying", "completed"].contains(&state.as_str().unwrap()), "{state}");
    }
    workers[0].abort();
    let jobs = eventually("every job is completed", SOON, async || {
        let jobs = jobs(&client).await;
        let completed = jobs.iter().filter(|job| job["state"] == "completed").count() as u64;
        (completed >= MESSAGES).then_some(jobs)
    })
    .await;
    assert_eq!(jobs.len() as u64, MESSAGES, "one each");
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    done.lock().await.iter().for_each(|(_, number)| *counts.entry(*number).or_default() += 1);
    assert!(counts.values().all(|count| *count == 1), "each ended once: {counts:?}");
    let names: BTreeSet<&str> = done.lock().await.iter().map(|(name, _)| *name).collect();
    assert!(names.len() >= 2, "{names:?}");
    workers.iter().for_each(JoinHandle::abort);
}
