//! `turnpike bus`, as an operator types it: through the gateway of a running system, and on Redis itself.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{Bus, Claim, Consumer, Delivery, Failure, Group, Handler, Mode, Settlement, Verb};
use e2e::{Options, System, binary};
use events::{Envelope, Name};
use serde_json::{Value, json};
use testkit::eventually;
use tokio_util::sync::CancellationToken;

/// How a command ended.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    #[track_caller]
    fn done(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    #[track_caller]
    fn json(self) -> Value {
        let out = self.done();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("not JSON ({error}): {out}"))
    }
}

/// The way in, as arguments.
struct Cli(Vec<String>);

impl Cli {
    fn of(folder: &Path) -> Self {
        Self(vec!["--data-dir".to_owned(), folder.to_str().unwrap().to_owned()])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("bus").args(arguments).args(&self.0).stdin(Stdio::null());
        for name in ["DEMO_URL", "DEMO_OPERATOR_EMAIL", "DEMO_OPERATOR_PASSWORD", "TURNPIKE_API_KEY"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).output().unwrap())
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Said {
        let mut process = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Said::of(&process.wait_with_output().unwrap())
    }
}

/// What is the same whichever way in: publish, see it, follow it.
fn publishes_and_follows(cli: &Cli) {
    let receipt =
        cli.run(&["publish", "NOTES/WRITTEN", r#"{"text":"one"}"#, "--id", "n1", "--key", "k", "-o", "json"]).json();
    assert_eq!((&receipt["id"], &receipt["confirm"]), (&json!("n1"), &json!("stored")));
    let again = cli.run(&["publish", "NOTES/WRITTEN", "{}", "--id", "n1", "--key", "k", "-o", "json"]).json();
    assert_eq!((&again["duplicate"], &again["cursor"]), (&json!(true), &receipt["cursor"]));
    let read = cli.run_with(&["publish", "NOTES/WRITTEN", "-", "--subject", "notes/2"], r#"{"text":"two"}"#).done();
    assert!(read.starts_with("stored"), "{read}");
    let lines =
        cli.run_with(&["publish", "NOTES/WRITTEN", "--batch", "-o", "json"], "{\"text\":\"three\"}\n4\n").done();
    assert_eq!(lines.lines().filter(|line| line.contains("cursor")).count(), 2, "{lines}");

    let queues = cli.run(&["queues", "-o", "json"]).json();
    let notes = queues["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == "NOTES").unwrap();
    assert_eq!((&notes["events"], &notes["max_age"]), (&json!(4), &json!("7d")));
    let table = cli.run(&["queues"]).done();
    let row = table.lines().find(|line| line.starts_with("NOTES ")).unwrap();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((row[0], row[1], &row[4..]), ("NOTES", "4", &["4", "1", "7d"][..]), "{table}");
    assert!(!table.contains('\u{1b}'), "colours are for terminals");

    let followed = cli.run(&["tail", "NOTES/*", "--from", "earliest", "-n", "4", "-o", "json"]).done();
    let events: Vec<Value> = followed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let data: Vec<&Value> = events.iter().map(|event| &event["data"]).collect();
    assert_eq!(data, [&json!({"text": "one"}), &json!({"text": "two"}), &json!({"text": "three"}), &json!(4)]);
    // A cursor goes on after its event.
    let after = cli.run(&["tail", "NOTES/*", "--from", events[2]["cursor"].as_str().unwrap(), "-n", "1"]).done();
    assert!(after.contains("NOTES/WRITTEN") && after.trim_end().ends_with('4'), "{after}");
    let recent = cli.run(&["tail", "NOTES/*", "--from", "-5m", "-n", "4"]).done();
    assert_eq!(recent.lines().count(), 4);

    shows_one_event(cli, &receipt);
    sets_a_queue(cli);
    cancels_what_waits(cli);
    let well = cli.run(&["doctor", "-o", "json"]).json();
    assert!(well["well"] == true && !well["findings"].as_array().unwrap().is_empty(), "{well}");
    assert!(cli.run(&["doctor"]).done().contains("ok "));

    // Nobody reads the queue: it is recorded, and not delivered.
    let waited = cli.run(&["publish", "NOTES/WRITTEN", "5", "--confirm", "delivered", "--timeout", "100ms"]);
    assert_eq!(waited.code, 1);
    assert!(
        waited.out.starts_with("stored") && waited.err.contains("no group takes it"),
        "{}{}",
        waited.out,
        waited.err
    );
    for wrong in
        [&["publish", "notes/written"][..], &["publish", "NOTES"], &["tail"], &["dlq", "show", "g", "x"], &["nothing"]]
    {
        assert_eq!(cli.run(wrong).code, 2, "{wrong:?}");
    }
    let refused = cli.run(&["publish", "NOTES/WRITTEN", "no json"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("JSON"), "{}", refused.err);
    let refused = cli.run(&["dlq", "ls", "nobody"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("nobody"), "{}", refused.err);
}

/// An event, by the cursor that its publish answered.
fn shows_one_event(cli: &Cli, receipt: &Value) {
    let cursor = receipt["cursor"].as_str().unwrap();
    let event = cli.run(&["get", cursor, "-o", "json"]).json();
    assert_eq!((&event["id"], &event["data"]), (&json!("n1"), &json!({"text": "one"})));
    let own = cli.run(&["get", "n1", "--queue", "NOTES", "-o", "json"]).json();
    assert_eq!((&own["cursor"], &own["data"]), (&json!(cursor), &event["data"]));
    let unknown = cli.run(&["get", "n0", "--queue", "NOTES"]);
    assert!(unknown.code == 1 && unknown.err.contains("dedupe window"), "{}", unknown.err);
    let shown = cli.run(&["get", cursor]).done();
    assert!(shown.starts_with("NOTES/WRITTEN") && shown.contains("\"text\": \"one\""), "{shown}");
    let status = cli.run(&["status", cursor, "-o", "json"]).json();
    assert_eq!(
        (&status["delivery"], &status["position"], &status["groups"]),
        (&json!("nobody"), &json!(1), &json!({}))
    );
    assert!(cli.run(&["status", cursor]).done().contains("NOTES/WRITTEN 0:1"));
    for command in ["get", "status"] {
        let refused = cli.run(&[command, "nothing"]);
        assert!(refused.code == 1 && refused.err.contains("cursor"), "{}", refused.err);
    }
}

/// What waits for its time is taken back.
fn cancels_what_waits(cli: &Cli) {
    let publish = ["publish", "LATER/WRITTEN", "{}", "--id", "l1", "--key", "k", "--in", "1h"];
    let waits = cli.run(&[&publish[..], &["-o", "json"]].concat());
    let receipt: Value = serde_json::from_str(&waits.out).unwrap();
    assert_eq!((&receipt["reason"], &receipt["id"]), (&json!("scheduled"), &json!("l1")), "{}", waits.err);
    let status = cli.run(&["status", "l1", "--queue", "LATER", "-o", "json"]).json();
    assert_eq!((&status["delivery"], &status["due"]), (&json!("scheduled"), &receipt["due"]));
    assert!(cli.run(&["status", "l1", "--queue", "LATER"]).done().starts_with("scheduled for "));
    let early = cli.run(&["get", "l1", "--queue", "LATER"]);
    assert!(early.code == 1 && early.err.contains("waits for its time"), "{}", early.err);
    assert!(cli.run(&["queues"]).done().contains("1 scheduled"));
    let cancelled = cli.run(&["cancel", "LATER", "l1", "-o", "json"]).json();
    assert_eq!(cancelled, json!({"queue": "LATER", "id": "l1", "waits": false}));
    let recorded = cli.run(&["publish", "LATER/WRITTEN", "{}", "--id", "l1", "--key", "k", "-o", "json"]).json();
    assert_eq!((&recorded["duplicate"], &recorded["confirm"]), (&Value::Null, &json!("stored")));
    let late = cli.run(&["cancel", "LATER", "l1"]);
    assert!(late.code == 1 && late.err.contains("recorded already"), "{}", late.err);
}

/// What isn't said stays.
fn sets_a_queue(cli: &Cli) {
    let set = ["queues", "set", "LIMITED", "--max-len", "1000", "--max-bytes", "2MiB", "--overflow", "drop-oldest"];
    let queue = cli.run(&[&set[..], &["--partitions", "2", "--dedupe", "1h", "-o", "json"]].concat()).json();
    assert_eq!(
        (&queue["max_len"], &queue["max_bytes"], &queue["overflow"]),
        (&json!(1000), &json!(2 << 20), &json!("drop_oldest"))
    );
    let queue = cli.run(&["queues", "set", "LIMITED", "--max-age", "36h", "--max-bytes", "none", "-o", "json"]).json();
    assert_eq!(
        (&queue["max_len"], &queue["max_bytes"], &queue["max_age"]),
        (&json!(1000), &Value::Null, &json!("36h"))
    );
    assert_eq!((&queue["dedupe"], queue["partitions"].as_array().unwrap().len()), (&json!("1h"), 2));
    let table = cli.run(&["queues"]).done();
    assert!(table.contains("36h, 1,000, drops the oldest") && table.contains("dedupe 1h"), "{table}");
    let refused = cli.run(&["queues", "set", "LIMITED", "--max-bytes", "1KiB"]);
    assert!(refused.code == 1 && refused.err.contains("max_bytes"), "{}", refused.err);
    for wrong in [&["queues", "set"][..], &["queues", "set", "notes"], &["queues", "set", "N", "--max-len", "many"]] {
        assert_eq!(cli.run(wrong).code, 2, "{wrong:?}");
    }
}

#[tokio::test]
async fn an_operator_asks_a_running_system() {
    let system = System::start(Options::default()).await;
    let cli = Cli::of(system.folder());
    publishes_and_follows(&cli);

    system.customer("someone@turnpike.example").await;
    let delivered = cli.run(&["publish", "DB/NOTED", "{}", "--confirm", "delivered:logger", "--timeout", "30s"]).done();
    assert!(delivered.starts_with("delivered") && delivered.contains("logger: acked"), "{delivered}");
    let noted = cli.run(&["publish", "DB/NOTED", "{}", "-o", "json"]).json();
    let watched = cli.run(&["status", noted["cursor"].as_str().unwrap(), "--watch", "-o", "json"]).done();
    let last: Value = serde_json::from_str(watched.lines().last().unwrap()).unwrap();
    assert_eq!((&last["delivery"], &last["groups"]["logger"]), (&json!("delivered"), &json!("acked")), "{watched}");
    let groups = cli.run(&["groups", "-o", "json"]).json();
    let logger = groups["groups"].as_array().unwrap().iter().find(|group| group["name"] == "logger").unwrap();
    assert_eq!((&logger["dead"], &logger["members"]), (&json!(0), &json!(1)));
    let table = cli.run(&["groups"]).done();
    assert!(table.starts_with("GROUP ") && table.contains("logger"), "{table}");
    let clients = cli.run(&["clients"]).done();
    assert!(clients.contains("member") && clients.contains("(logger)"), "{clients}");
    assert!(cli.run(&["dlq", "ls", "logger"]).done().contains("no dead letters"));

    // An API key of a customer may not operate; the gateway's problem says so.
    let mut customer = Cli::of(system.folder());
    customer.0.extend(["--api-key".to_owned(), system.env("DEMO_API_KEY").to_owned()]);
    let refused = customer.run(&["queues"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("403") && refused.err.contains("bus:read"), "{}", refused.err);
}

#[tokio::test]
async fn an_operator_reads_redis_itself() {
    let redis = testkit::redis().await;
    let folder = tempfile::tempdir().unwrap();
    let mut cli = Cli::of(folder.path());
    cli.0.extend(["--redis".to_owned(), redis.url()]);
    publishes_and_follows(&cli);
    assert_eq!(redis.command(&["ZCARD", "tp:nodes"]).trim(), "0", "a command is no node that anybody would miss");
    finds_what_is_wrong(&cli, &redis.url()).await;
}

/// A group that gives up on an event, and then is gone.
async fn finds_what_is_wrong(cli: &Cli, url: &str) {
    let bus = bus::redis::open(url).await.unwrap();
    let group = Group::new("sulky", "SULKS/*".parse().unwrap(), Mode::Keyed);
    bus.declare_group(group).await.unwrap();
    let cursor = |id: &str| {
        let receipt = cli.run(&["publish", "SULKS/WRITTEN", "{}", "--id", id, "--key", "k", "-o", "json"]).json();
        receipt["cursor"].as_str().unwrap().to_owned()
    };
    let (first, second) = (cursor("s1"), cursor("s2"));
    let claim = Claim { group: "sulky".into(), member: "m".into(), max: 1, bytes: 1 << 20 };
    let leased = bus.claim(claim).await.unwrap().leased.remove(0);
    let status = |cursor: &str| cli.run(&["status", cursor, "-o", "json"]).json();
    assert_eq!(
        (&status(&first)["groups"]["sulky"], &status(&first)["details"]["sulky"]["attempt"]),
        (&json!("leased"), &json!(1))
    );
    assert!(cli.run(&["status", &first]).done().contains("attempt 1, leased for"));
    assert_eq!(status(&second)["delivery"], "pending");
    let verb = Verb::Dead { reason: "it sulks".into() };
    bus.settle("sulky", vec![Settlement { token: leased.token, verb }]).await.unwrap().remove(0).unwrap();
    let watched = cli.run(&["status", &first, "--watch"]);
    assert!(watched.code == 1 && watched.out.contains("dead"), "{}{}", watched.out, watched.err);
    let doctor = cli.run(&["doctor"]).done();
    assert!(doctor.contains("sulky has 1 dead letters") && doctor.contains("nobody works for sulky"), "{doctor}");
    let table = cli.run(&["groups"]).done();
    assert!(table.contains("nobody works") && table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = Cli::of(folder.path()).run(&["doctor", "--redis", "redis://127.0.0.1:9", "-o", "json"]);
    assert_eq!(said.code, 1, "{}", said.err);
    let found: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&found["well"], &found["findings"][0]["level"]), (&json!(false), &json!("error")));
    assert!(!found["findings"][0]["advice"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_file_is_copied_to_redis() {
    let redis = testkit::redis().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bus.db");
    let bus = bus::sqlite::open(&file).await.unwrap();
    bus.declare_group(Group::new("g", "NOTES/*".parse().unwrap(), Mode::Parallel)).await.unwrap();
    for id in ["n1", "n2"] {
        let event = Envelope::new("/services/notes", Name::new("NOTES").unwrap(), Name::new("WRITTEN").unwrap()).id(id);
        bus.publish(vec![event]).await.unwrap().remove(0).unwrap();
    }
    let cli = Cli::of(folder.path());
    let url = redis.url();
    let copy = ["copy", "--from", file.to_str().unwrap(), "--to", &url];
    let used = cli.run(&copy);
    assert!(used.code == 1 && used.err.contains("another process"), "{}", used.err);
    drop(bus);
    let mut direct = Cli::of(folder.path());
    direct.0.extend(["--redis".to_owned(), redis.url()]);
    let dry = cli.run(&[&copy[..], &["--dry-run"]].concat()).done();
    assert!(dry.contains("NOTES") && dry.contains("without --dry-run"), "{dry}");
    assert_eq!(direct.run(&["queues", "-o", "json"]).json(), json!({"queues": []}));
    let copied = cli.run(&[&copy[..], &["-o", "json"]].concat()).json();
    assert_eq!((&copied["queues"][0]["events"], &copied["groups"][0]["name"]), (&json!(2), &json!("g")));
    assert!(cli.run(&copy).done().contains("copied before"));
    let followed = direct.run(&["tail", "NOTES/*", "--from", "earliest", "-n", "2", "-o", "json"]).done();
    assert!(followed.contains("\"n1\"") && followed.contains("\"n2\""), "{followed}");
    let groups = direct.run(&["groups", "-o", "json"]).json();
    assert_eq!((&groups["groups"][0]["name"], &groups["groups"][0]["lag"]), (&json!("g"), &json!(2)));
    assert_eq!(cli.run(&["copy", "--from", "x"]).code, 2);
}

#[tokio::test]
async fn the_contract_is_verified_on_a_live_redis() {
    let redis = testkit::redis().await;
    let folder = tempfile::tempdir().unwrap();
    let mut cli = Cli::of(folder.path());
    cli.0.extend(["--redis".to_owned(), redis.url()]);
    cli.run(&["publish", "NOTES/WRITTEN", "{}"]).done();
    let report = cli.run(&["verify", "--only", "C1", "--seed", "7", "-o", "json"]).json();
    assert_eq!((&report["rows"][0]["case"], &report["rows"][0]["violations"]), (&json!("C1"), &json!(0)), "{report}");
    assert_eq!(report["faults"], json!([]));
    let table = cli.run(&["verify", "--only", "C1"]).done();
    assert!(table.lines().any(|line| line.starts_with("C1 ") && line.contains("kept")), "{table}");
    // What it wrote is gone, what was there is not.
    let queues = cli.run(&["queues", "-o", "json"]).json();
    assert_eq!(queues["queues"].as_array().unwrap().len(), 1, "{queues}");
    let unknown = cli.run(&["verify", "--only", "C99"]);
    assert!(unknown.code == 1 && unknown.err.contains("C1"), "{}", unknown.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_may_wait_until_a_replica_has_it() {
    let redis = testkit::redis().await;
    let replica = redis.replica(testkit::RedisOptions::default()).await;
    let arguments = vec!["--redis".to_owned(), redis.url()];
    let system = System::start(Options { arguments: arguments.clone(), ..Options::default() }).await;
    let gateway = Cli::of(system.folder());
    let mut direct = Cli::of(system.folder());
    direct.0.extend(arguments);
    let publish = ["publish", "NOTES/WRITTEN", "{}", "--confirm", "replicated:1"];
    for (cli, events) in [(&gateway, 1), (&direct, 2)] {
        let receipt = cli.run(&[&publish[..], &["-o", "json"]].concat()).json();
        assert_eq!((&receipt["confirm"], &receipt["degraded"]), (&json!("replicated:1"), &json!(false)));
        let length = replica.command(&["XLEN", "tp:{NOTES:0}:s"]);
        assert_eq!(length.trim().trim_start_matches(':'), events.to_string(), "the replica has it");
        let refused = cli.run(&["publish", "NOTES/WRITTEN", "{}", "--confirm", "replicated:2"]);
        assert_eq!(refused.code, 1, "there is one replica: {}", refused.out);
        assert!(refused.err.contains("replica"), "{}", refused.err);
    }
    // One that doesn't answer has nothing: what is confirmed is what is so.
    replica.pause();
    let late = gateway.run(&[&publish[..], &["--timeout", "300ms"]].concat());
    replica.resume();
    assert_eq!(late.code, 1, "{}{}", late.out, late.err);
    assert!(late.out.starts_with("stored"), "{}{}", late.out, late.err);
}

/// Refuses every note until it has learnt to read.
struct Reader {
    reads: AtomicBool,
}

#[async_trait]
impl Handler for Reader {
    async fn handle(&self, _: &Delivery) -> Result<(), Failure> {
        match self.reads.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(Failure::Dead { reason: "it can't be read".to_owned() }),
        }
    }
}

/// Dead letters of a group that refuses this queue's events: seen, given to it again, forgotten.
async fn settles_dead_letters(cli: &Cli, bus: &Bus, queue: &str, group: &str) {
    let reader = Arc::new(Reader { reads: AtomicBool::new(false) });
    let declared = Group::new(group, format!("{queue}/*").parse().unwrap(), Mode::Parallel);
    let stop = CancellationToken::new();
    let consumer = Consumer::new(bus.clone(), declared, reader.clone());
    let consuming = tokio::spawn(consumer.run(stop.clone(), stop.clone()));
    for (id, subject) in [("d1", "notes/1"), ("d2", "notes/2"), ("d3", "notes/3")] {
        cli.run(&["publish", &format!("{queue}/WRITTEN"), "{}", "--id", id, "--subject", subject]).done();
    }
    let dead = async |count: usize| {
        eventually("so many are dead", Duration::from_secs(30), || async {
            let letters = cli.run(&["dlq", "ls", group, "-o", "json"]).json()["dead_letters"].take();
            (letters.as_array().unwrap().len() == count).then_some(letters)
        })
        .await
    };

    let letters = dead(3).await;
    let places: Vec<_> = letters.as_array().unwrap().iter().map(|letter| letter["position"].clone()).collect();
    assert_eq!(places, [1, 2, 3]);
    assert_eq!((&letters[0]["reason"], &letters[0]["event"]["id"]), (&json!("refused"), &json!("d1")));
    let table = cli.run(&["dlq", "ls", group, "-n", "2"]).done();
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows.len() == 3 && rows[0].starts_with("LETTER "), "{table}");
    let row: Vec<&str> = rows[1].split_whitespace().take(5).collect();
    assert_eq!(row, ["0:1", &format!("{queue}/WRITTEN"), "notes/1", "refused", "1"]);

    for (letter, subject) in [("0:1", "notes/1"), ("2", "notes/2")] {
        let shown = cli.run(&["dlq", "show", group, letter]).done();
        assert!(shown.contains("refused") && shown.contains("it can't be read"), "{shown}");
        assert!(shown.contains(&format!("\"subject\": \"{subject}\"")), "{shown}");
    }
    let shown = cli.run(&["dlq", "show", group, "0:3", "-o", "json"]).json();
    assert_eq!((&shown["position"], &shown["attempts"], &shown["event"]["id"]), (&json!(3), &json!(1), &json!("d3")));
    let missing = cli.run(&["dlq", "show", group, "0:4"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("0:4"), "{}", missing.err);

    for unsaid in [&["dlq", "redrive", group][..], &["dlq", "discard", group], &["dlq", "discard", group, "1", "--all"]]
    {
        assert_eq!(cli.run(unsaid).code, 2, "which ones is said: {unsaid:?}");
    }
    // Given to the group again before it has learnt anything, one is dead again, and says so.
    assert_eq!(cli.run(&["dlq", "redrive", group, "0:1"]).done().trim(), format!("1 dead letter of {group} redriven"));
    let again = eventually("it is dead again", Duration::from_secs(30), || async {
        let shown = cli.run(&["dlq", "show", group, "0:1", "-o", "json"]);
        (shown.code == 0).then(|| shown.json()).filter(|letter| letter["redrive"] == 1)
    });
    assert_eq!(again.await["event"]["id"], "d1");
    assert_eq!(cli.run(&["dlq", "discard", group, "0:2", "-o", "json"]).json(), json!({"discarded": 1}));
    assert_eq!(cli.run(&["dlq", "discard", group, "0:2", "-o", "json"]).json(), json!({"discarded": 0}));
    dead(2).await;
    reader.reads.store(true, Ordering::SeqCst);
    assert_eq!(
        cli.run(&["dlq", "redrive", group, "--all"]).done().trim(),
        format!("2 dead letters of {group} redriven")
    );
    dead(0).await;
    eventually("nothing is left to do", Duration::from_secs(30), || async {
        let groups = cli.run(&["groups", "-o", "json"]).json();
        let groups = groups["groups"].as_array().unwrap();
        groups.iter().any(|known| known["name"] == group && known["lag"] == 0 && known["dead"] == 0).then_some(())
    })
    .await;
    stop.cancel();
    consuming.await.unwrap().unwrap();
    moves_a_group(cli, group);
}

/// A group whose members are gone, and which has handled three events.
fn moves_a_group(cli: &Cli, group: &str) {
    let lag = || {
        let groups = cli.run(&["groups", "-o", "json"]).json();
        let groups = groups["groups"].as_array().unwrap();
        groups.iter().find(|known| known["name"] == group).unwrap()["lag"].clone()
    };
    let told = cli.run(&["seek", group, "--to", "earliest", "--dry-run"]).done();
    assert!(told.contains("would be moved: 3 events to be handled again"), "{told}");
    assert_eq!(lag(), 0, "it was only asked");
    let moved = cli.run(&["seek", group, "--to", "2", "-o", "json"]).json();
    assert_eq!(moved, json!({"again": 2, "skipped": 0, "leases": 0, "dry_run": false}));
    assert_eq!(lag(), 2);
    let moved = cli.run(&["seek", group, "--to", "-1h", "-o", "json"]).json();
    assert_eq!(moved["again"], 1, "all of them were recorded within the hour");
    assert!(cli.run(&["seek", group, "--to", "latest"]).done().contains("3 events passed over"));
    assert_eq!(lag(), 0);
    for wrong in [&["seek", group][..], &["seek", group, "--to", "sometime"], &["seek", "--to", "latest"]] {
        assert_eq!(cli.run(wrong).code, 2, "{wrong:?}");
    }
    assert_eq!(cli.run(&["seek", "nobody", "--to", "latest"]).code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_shown_redriven_and_discarded() {
    let redis = testkit::redis().await;
    let arguments = vec!["--redis".to_owned(), redis.url()];
    let system = System::start(Options { arguments: arguments.clone(), ..Options::default() }).await;
    let bus = bus::redis::open(&redis.url()).await.unwrap();
    settles_dead_letters(&Cli::of(system.folder()), &bus, "NOTES", "reader").await;
    let mut direct = Cli::of(system.folder());
    direct.0.extend(arguments);
    settles_dead_letters(&direct, &bus, "LETTERS", "other-reader").await;
}

#[test]
fn who_is_not_there_is_said_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = Cli::of(folder.path()).run(&["queues"]);
    assert_eq!(nothing.code, 1);
    assert!(nothing.err.contains("turnpike up") && nothing.err.contains("--redis"), "{}", nothing.err);
    let mut closed = Cli::of(folder.path());
    closed.0.extend(["--api-key", "k", "--url", "http://127.0.0.1:9"].map(str::to_owned));
    let refused = closed.run(&["queues"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("http://127.0.0.1:9"), "{}", refused.err);
    let both = closed.run(&["queues", "--redis", "redis://127.0.0.1:9"]);
    assert_eq!(both.code, 2, "{}", both.err);
}
