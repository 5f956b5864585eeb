//! A service in Python takes part in the bus, through the gateway: what it emits others see, what others emit it handles, in
//! order, again after a failure, and again elsewhere after it was killed.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use e2e::{Client, Options, System, shown};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::eventually;

const SOON: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The example in a folder of its own, with its packages.
fn example() -> TempDir {
    let python = root().join("target/tools/bus-python");
    assert!(
        python.join("bin/python").exists(),
        "the example's Python packages are missing: deploy/install-test-tools installs them"
    );
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root().join("examples/bus-python")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    std::os::unix::fs::symlink(python.canonicalize().unwrap(), folder.path().join(".venv")).unwrap();
    folder
}

/// Programs of the example, with a key for the gateway of a system.
struct Python {
    folder: TempDir,
    target: String,
    key: String,
}

/// A consumer that runs until it is dropped; what it prints.
struct Consumer {
    process: Child,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Python {
    fn of(system: &System) -> Self {
        let folder = example();
        let file = system.folder().join("keys.yaml");
        let scopes = "events:write:NOTES/*,events:read:NOTES/*,events:consume:readers*";
        let mut key = Command::new(e2e::binary());
        key.args(["key", "new", "--subject", "services/notes", "--scope", scopes, "--file"]).arg(file);
        let key = String::from_utf8(done(&mut key)).unwrap().trim().to_owned();
        let python = Self { folder, target: system.env("DEMO_URL").replace("http://", ""), key };
        let protos = root().join("proto/proto");
        let mut generate = python.command("-m");
        generate.arg("grpc_tools.protoc").arg("-I").arg(protos).args(["--python_out=.", "--grpc_python_out=."]);
        done(generate.arg("turnpike/bus/v1/bus.proto"));
        python
    }

    fn command(&self, first: &str) -> Command {
        let mut command = Command::new(self.folder.path().join(".venv/bin/python"));
        command.arg(first).current_dir(self.folder.path());
        command.env("TURNPIKE_TARGET", &self.target).env("TURNPIKE_API_KEY", &self.key);
        command
    }

    /// What a program prints, a JSON value a line.
    fn run(&self, arguments: &[&str]) -> Vec<Value> {
        lines(&done(self.command(arguments[0]).args(&arguments[1..])))
    }

    fn consume(&self, arguments: &[&str]) -> Consumer {
        let mut command = self.command("consume.py");
        let mut process = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let (told, out) = (Arc::new(Mutex::new(Vec::new())), process.stdout.take().unwrap());
        let telling = told.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                telling.lock().unwrap().extend(serde_json::from_str(&line));
            }
        });
        Consumer { process, told }
    }
}

impl Consumer {
    /// What it told of this kind, once there is so much of it.
    async fn told(&self, state: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} {state}"), SOON, || async {
            let told = self.told.lock().unwrap().clone();
            let told: Vec<Value> = told.into_iter().filter(|told| told["state"] == state).collect();
            (told.len() >= count).then_some(told)
        })
        .await
    }

    fn kill(&mut self) {
        // SIGKILL.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to stop; whether it did so well.
    async fn terminate(mut self) -> bool {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let ended = eventually("it ends", SOON, || {
            let ended = self.process.try_wait().unwrap();
            async move { ended }
        });
        ended.await.success()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[track_caller]
fn done(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn lines(text: &[u8]) -> Vec<Value> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn ids(told: &[Value]) -> Vec<&str> {
    told.iter().map(|told| told["id"].as_str().unwrap()).collect()
}

/// Publishes over HTTP.
async fn publish(operator: &Client, id: &str, key: &str) {
    operator.post(&format!("/events/NOTES/WRITTEN?id={id}&key={key}"), json!({ "text": id })).await.expect(201);
}

#[tokio::test]
async fn a_service_in_python_takes_part() {
    let system = System::start(Options::default()).await;
    let operator = system.operator().await;
    let python = Python::of(&system);

    // The gateway sees the key that was made a moment ago.
    let emit = ["emit.py", "NOTES/WRITTEN", r#"{"text": "hello"}"#, "--subject", "notes/1", "--id", "e1"];
    let receipt = eventually("its key is known", SOON, || async {
        let output = python.command(emit[0]).args(&emit[1..]).output().unwrap();
        output.status.success().then(|| lines(&output.stdout).remove(0))
    })
    .await;
    let seen = operator.get("/events?filter=NOTES/*&from=earliest&wait=10s").await.expect(200).json();
    let event = &seen["events"][0]["event"];
    assert_eq!((&event["id"], &event["source"]), (&json!("e1"), &json!("/clients/services/notes")));
    assert_eq!((&event["data"], &event["owner"]), (&json!({ "text": "hello" }), &json!("services/notes")));
    assert_eq!(python.run(&emit)[0]["duplicate"], true);
    assert_eq!(receipt["duplicate"], false);

    // What others emit it handles, failing once: in the order of each key all the same.
    let keyed = python.consume(&["readers", "NOTES/*", "--mode", "keyed", "--fail-first", "--concurrency", "4"]);
    keyed.told("done", 1).await;
    for n in 1..=6 {
        publish(&operator, &format!("a{n}"), "a").await;
        publish(&operator, &format!("b{n}"), "b").await;
    }
    let handled = keyed.told("done", 13).await;
    assert!(handled.iter().all(|told| told["attempt"] == 2), "{handled:?}");
    for key in ["a", "b"] {
        let of_key: Vec<Value> = handled.iter().filter(|told| told["key"] == key).cloned().collect();
        assert_eq!(ids(&of_key), (1..=6).map(|n| format!("{key}{n}")).collect::<Vec<_>>());
    }
    assert!(keyed.terminate().await, "it stops when it is asked to");

    // Killed in the middle of handling: another one gets it, once the lease is over.
    let group = ["readers2", "NOTES/*", "--lease", "3"];
    let mut killed = python.consume(&[&group[..], &["--slow", "600", "--concurrency", "1"]].concat());
    let begun = killed.told("begun", 1).await;
    killed.kill();
    let other = python.consume(&group);
    let handled = other.told("done", 13).await;
    let again = handled.iter().find(|told| told["id"] == begun[0]["id"]).unwrap();
    assert_eq!(again["attempt"], 2, "whoever dies in the middle has tried");

    // It goes on over a restart of the broker.
    let mut system = system;
    system.change("broker", "stop").await;
    system.change("broker", "start").await;
    assert_eq!(python.run(&["emit.py", "NOTES/WRITTEN", "{}", "--id", "late"])[0]["duplicate"], false);
    let handled = other.told("done", 14).await;
    assert_eq!(ids(&handled)[13], "late");

    // Following goes on where it was.
    let follow = ["follow.py", "NOTES/*", "--cursor-file", "place", "--count", "2"];
    assert_eq!(ids(&python.run(&follow)), ["e1", "a1"]);
    assert_eq!(ids(&python.run(&follow)), ["b1", "a2"]);
}

#[tokio::test]
async fn the_guide_to_the_bus_s_api_keeps_its_word() {
    let folder = example();
    let ports: Vec<(&str, String)> =
        ["8080", "9900"].into_iter().map(|port| (port, testkit::free_port().to_string())).collect();
    let guide = fs::read_to_string(root().join("docs/bus-api.md")).unwrap();
    let guide = guide
        .replace("../../proto/proto", root().join("proto/proto").to_str().unwrap())
        .replace("turnpike up ", &format!("turnpike up --port {} --ops-port {} ", ports[0].1, ports[1].1))
        .replace(":8080", &format!(":{}", ports[0].1));
    let commands = shown::commands(&guide);
    assert!(commands.len() > 10);
    let place = folder.path().to_owned();
    // Read by the programs where they are not told otherwise.
    let commands = std::iter::once(format!("$ export TURNPIKE_TARGET=127.0.0.1:{}", ports[0].1))
        .map(|command| shown::commands(&format!("```console\n{command}\n```")).remove(0))
        .chain(commands)
        .collect::<Vec<_>>();
    tokio::task::spawn_blocking(move || shown::run(&commands, &place)).await.unwrap();
}
