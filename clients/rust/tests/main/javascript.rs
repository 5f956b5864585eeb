//! The client in JavaScript, against the same nodes and the same network: by node's own test runner, and in a page.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path as At, State},
    routing::{get, post},
};
use broker::Settings;
use serde_json::{Value, json};
use testkit::{Fault, Way};
use tokio::net::TcpListener;

use crate::{
    impostor::Impostor,
    lab::{ALL, GUEST, Lab},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../javascript");

/// A lab, and where its tests say what is to happen in it.
async fn stage() -> (Arc<Lab>, String) {
    let settings = Settings { ping: Duration::from_millis(500), ..Settings::default() };
    let lab = Arc::new(Lab::start_with(settings).await);
    let router = Router::new()
        .route("/publish/{queue}/{event}/{from}/{to}", post(publish))
        .route("/log/{queue}", get(log))
        .route("/token", get(async |State(lab): State<Arc<Lab>>| lab.token("alice", ALL)))
        .route("/token/bob", get(async |State(lab): State<Arc<Lab>>| lab.token("bob", &["events:read:DB/*"])))
        .route("/token/{subject}/guest", get(guest))
        .route("/cut", post(async |State(lab): State<Arc<Lab>>| lab.proxy.cut()))
        .route("/cut/back/{bytes}", post(cut_back))
        .route("/kill", post(async |State(lab): State<Arc<Lab>>| lab.kill().await))
        .route("/drain", post(async |State(lab): State<Arc<Lab>>| lab.drain().await))
        .route("/swallow", post(async |State(lab): State<Arc<Lab>>| lab.proxy.set_both(Fault::Swallow)))
        .route("/heal", post(heal))
        .route("/impostor/{manner}", post(async |At(manner): At<String>| Impostor::start(manner).await.url))
        .route("/connections", get(async |State(lab): State<Arc<Lab>>| lab.proxy.connections().to_string()))
        .route("/refuse", post(async |State(lab): State<Arc<Lab>>| lab.proxy.refuse(true).await))
        .with_state(lab.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (lab, control)
}

async fn publish(State(lab): State<Arc<Lab>>, At((queue, event, from, to)): At<(String, String, u32, u32)>) {
    lab.publish(&format!("{queue}/{event}"), from..to).await;
}

/// Somebody who may be in rooms, and see who is online.
async fn guest(State(lab): State<Arc<Lab>>, At(subject): At<String>) -> String {
    lab.token(&subject, GUEST)
}

async fn log(State(lab): State<Arc<Lab>>, At(queue): At<String>) -> Json<Value> {
    let logged = lab.log(&queue).await;
    Json(logged.iter().map(|logged| json!(logged.envelope.id)).collect())
}

async fn cut_back(State(lab): State<Arc<Lab>>, At(bytes): At<u64>) {
    lab.proxy.set(Way::Back, Fault::CutAfter(bytes));
}

async fn heal(State(lab): State<Arc<Lab>>) {
    lab.proxy.refuse(false).await;
    lab.proxy.set_both(Fault::None);
}

/// Runs one file of tests.
async fn node(file: &str, way: &str) {
    let (lab, control) = stage().await;
    let mut node = Command::new("node");
    node.args(["--experimental-websocket", "--no-warnings", "--test", "--test-timeout=120000"])
        .arg(Path::new(FOLDER).join("tests").join(file))
        .envs([("TURNPIKE_URL", lab.url()), ("TURNPIKE_CONTROL", control), ("TURNPIKE_WAY", way.to_owned())]);
    run(node).await;
}

async fn run(mut node: Command) {
    let run = tokio::task::spawn_blocking(move || node.output()).await.unwrap();
    let run = run.expect("node: deploy/install-test-tools installs it");
    let (said, complained) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}\n{complained}");
    assert!(said.contains("pass "), "no test ran: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_by_websocket() {
    node("follow.test.mjs", "websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_by_sse() {
    node("follow.test.mjs", "sse").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_by_long_poll() {
    node("follow.test.mjs", "long-poll").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_publishes() {
    node("publish.test.mjs", "websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_the_way_that_is_open() {
    node("way.test.mjs", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shares_rooms() {
    node("rooms.test.mjs", "websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_bears_servers_without_manners() {
    node("hostile.test.mjs", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_types_say_what_it_has() {
    let tool = |folder: &Path| folder.join("target/tools/typescript/node_modules/typescript/lib/typescript.js");
    let compiler = Path::new(FOLDER).ancestors().map(tool).find(|tool| tool.exists());
    let mut node = Command::new("node");
    node.args(["--no-warnings", "--test", "--test-timeout=120000"])
        .arg(Path::new(FOLDER).join("tests/types.test.mjs"))
        .env("TURNPIKE_TYPESCRIPT", compiler.expect("typescript: deploy/install-test-tools installs it"));
    run(node).await;
}

#[test]
fn what_is_given_away_is_what_the_source_makes() {
    let built = Command::new("node").arg(Path::new(FOLDER).join("build.mjs")).arg("--check").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// A page that was loaded from the broker itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_follows_across_a_dead_node_as_a_module_and_as_a_script() {
    let (lab, _) = stage().await;
    let mut browser = testkit::browser().await;
    browser.navigate(&format!("{}/client.js", lab.url())).await;
    let classic = "new Promise((loaded) => {
        const script = document.createElement('script');
        script.src = '/client.classic.js';
        script.onload = () => loaded(Turnpike);
        document.head.append(script);
    })";
    for (from, load) in [(0, "import('/client.js')"), (100, classic)] {
        let token = lab.token("alice", ALL);
        browser
            .evaluate(&format!(
                "{load}.then(({{ Client }}) => {{
                     window.told = [];
                     window.states = [];
                     const state = (state, detail) => states.push(`${{state}} ${{detail}}`);
                     window.client = new Client(undefined, {{ token: '{token}', state, backoff: {{ first: 20, most: 500 }} }});
                     const event = ({{ event }}) => told.push(event.data.n);
                     window.notes = client.subscribe('DB/*', {{ cursor: 'latest' }}, {{ event }});
                     return notes.ready.then(() => true);
                 }})"
            ))
            .await;
        lab.publish("DB/CREATE", from..from + 10).await;
        browser.until(&format!("told.length === 10 && told[9] === {}", from + 9)).await;
        lab.kill().await;
        lab.publish("DB/CREATE", from + 10..from + 20).await;
        browser.until(&format!("told.length === 20 && told.every((n, at) => n === {from} + at)")).await;
        let states = browser.evaluate("states").await;
        assert_eq!((&states[0], &states[2]), (&json!("open websocket"), &json!("open websocket")), "{states}");
        let receipt =
            browser.evaluate("client.publish({ queue: 'NOTES', event: 'WRITTEN', data: 'from a page' })").await;
        assert_eq!(receipt["confirm"], "stored");
        browser.evaluate("client.close()").await;
    }
}

/// What a browser knows, and tells its pages.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_seen_or_has_a_network_again_looks_at_once() {
    let lab = Arc::new(Lab::start().await);
    let mut browser = testkit::browser().await;
    browser.navigate(&format!("{}/client.js", lab.url())).await;
    let token = lab.token("alice", ALL);
    // Left alone it would notice after half a minute, and come back after half an hour.
    browser
        .evaluate(&format!(
            "import('/client.js').then(({{ Client }}) => {{
                 window.told = [];
                 window.states = [];
                 const state = (...said) => states.push(said.slice(0, 2).join(' '));
                 const patience = {{ openWithin: 1_000, backoff: {{ first: 3_600_000, most: 3_600_000 }} }};
                 window.client = new Client(undefined, {{ token: '{token}', transports: ['websocket'], state, ...patience }});
                 const event = ({{ event }}) => told.push(event.data.n);
                 return client.subscribe('DB/*', {{}}, {{ event }}).ready.then(() => true);
             }})"
        ))
        .await;
    lab.proxy.set_both(Fault::Swallow);
    browser.evaluate("dispatchEvent(new Event('online'))").await;
    browser.until("states.at(-1) === 'reconnecting nothing was heard'").await;
    lab.proxy.set_both(Fault::None);
    lab.publish("DB/CREATE", 0..3).await;
    browser.evaluate("document.dispatchEvent(new Event('visibilitychange'))").await;
    browser.until("told.join() === '0,1,2'").await;
    browser.evaluate("client.close()").await;
}
