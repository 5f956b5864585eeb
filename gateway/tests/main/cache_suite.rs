//! The HTTP community's tests of caches (<https://github.com/http-tests/cache-tests>), as npm has them, against a gateway.
//! `docs/cache.md` says what came of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde::Deserialize;
use testkit::eventually;
use tokio::net::TcpStream;

use crate::running::Running;

const BOUND: Duration = Duration::from_secs(60);

/// What this edition of the suite asks for, and is done otherwise on purpose.
const OTHERWISE: &[(&str, &str)] = &[
    ("age-parse-", "RFC 9111, section 5.1: the first member counts, and what is no number is none"),
    ("headers-store-Set-Cookie", "answers that set a cookie are not kept"),
    ("304-etag-update-response-Set-Cookie", "answers that set a cookie are not kept"),
    ("headers-store-Transfer-Encoding", "a transfer coding that nobody knows is a 502"),
    ("304-etag-update-response-", "RFC 9111, section 3.2: all fields of a 304 but Content-Length are taken over"),
];

#[derive(Debug, Deserialize)]
struct Row {
    suite: String,
    id: String,
    kind: String,
    outcome: String,
    detail: String,
}

/// The suite's own server; ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Runs to its end, beside what runs here.
async fn run(mut command: Command) -> std::io::Result<Output> {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap()
}

/// The suite, as it is installed.
fn suite() -> PathBuf {
    let here = std::env::current_dir().unwrap();
    let suite = |folder: &Path| folder.join("target/tools/cache-tests/node_modules/http-cache-tests");
    let found = here.ancestors().map(suite).find(|suite| suite.join("tests/index.mjs").exists());
    found.unwrap_or_else(|| panic!("the cache tests are not installed: deploy/install-test-tools"))
}

#[tokio::test]
async fn the_communitys_tests_of_caches_pass() {
    let suite = suite();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let origin = Command::new("node")
        .arg(suite.join("server/server.mjs"))
        .current_dir(&suite)
        .env("npm_config_protocol", "http")
        .env("npm_config_port", port.to_string())
        .env("npm_config_pidfile", folder.path().join("pid"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Server)
        .unwrap_or_else(|error| panic!("node is needed (apt-get install nodejs): {error}"));
    eventually("it listens", BOUND, async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    // Nothing stale by default, as the suite expects of a cache that nobody has told otherwise.
    let gateway = Running::start(&format!(
        "upstreams: {{origin: {{endpoints: ['127.0.0.1:{port}']}}}}\n\
         routes: [{{match: {{path: '/{{rest=**}}'}}, proxy: origin, compression: false, cache: {{stale_while_revalidate: 0s}}}}]\n"
    ))
    .await;
    let url = format!("http://{}", gateway.address);
    let rows = attempt(&suite, &url).await;
    // Its cases count seconds of the wall clock: a machine that stalls for one fails a case, but not the same one twice.
    let failed = match failed(&rows) {
        first if first.is_empty() => first,
        first => {
            println!("failed at first: {first:?}");
            failed(&attempt(&suite, &url).await).into_iter().filter(|id| first.contains(id)).collect()
        }
    };
    drop(origin);
    gateway.stop().await;
    let mut table = BTreeMap::<(&str, &str, &str), usize>::new();
    for row in &rows {
        *table.entry((&row.suite, &row.kind, &row.outcome)).or_default() += 1;
        if row.outcome != "passed" {
            println!("{} {} {} {}: {}", row.suite, row.kind, row.outcome, row.id, row.detail);
        }
    }
    for ((suite, kind, outcome), count) in &table {
        println!("{suite} | {kind} | {outcome} | {count}");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

async fn attempt(suite: &Path, url: &str) -> Vec<Row> {
    let mut suite_run = Command::new("node");
    suite_run
        .arg("--no-warnings")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cache_suite/run.mjs"))
        .arg(suite)
        .arg(url)
        .stderr(Stdio::inherit());
    let run = run(suite_run).await.unwrap();
    let printed = String::from_utf8_lossy(&run.stdout);
    let rows: Vec<Row> = serde_json::from_str(printed.lines().last().unwrap_or_default()).unwrap();
    assert!(rows.len() > 300, "{}", rows.len());
    rows
}

/// What is required, failed, and is not to be otherwise.
fn failed(rows: &[Row]) -> Vec<String> {
    let required = rows.iter().filter(|row| row.kind == "required");
    let failed = required.filter(|row| ["failed", "setup"].contains(&row.outcome.as_str()));
    let failed = failed.filter(|row| !OTHERWISE.iter().any(|(id, _)| row.id.starts_with(id)));
    failed.map(|row| row.id.clone()).collect()
}
