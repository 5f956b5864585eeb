//! A configuration that changes while the gateway runs, and how the gateway ends.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use gateway::{ConfigSource, Options, Properties};
use http::Response;
use http_body_util::Full;
use lifecycle::Role as _;
use testkit::eventually;
use tokio::sync::Notify;

use crate::running::{Connection, LISTENER, Running, upstream};

const BOUND: Duration = Duration::from_secs(10);

fn write(path: &Path, routes: &str) {
    // As deployments do it: a new file takes the old one's place.
    let next = path.with_extension("next");
    fs::write(&next, format!("{LISTENER}{routes}")).unwrap();
    fs::rename(next, path).unwrap();
}

fn answering(body: &str) -> String {
    format!("routes:\n- {{match: {{path: /}}, respond: {{status: 200, body: {body}}}}}\n")
}

#[tokio::test]
async fn a_changed_file_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    write(&path, &answering("old"));
    let gateway = Running::watching(&path).await;
    // One connection all the way: a reload doesn't close it.
    let mut connection = Connection::open(gateway.address).await;
    assert_eq!(connection.send("GET", "/", &[], "").await.body, "old");
    write(&path, &answering("new"));
    eventually("the new answer", BOUND, async || (gateway.get("/").await.body == "new").then_some(())).await;
    assert_eq!(connection.send("GET", "/", &[], "").await.body, "new");
    let config = gateway.ops("/config").await;
    assert_eq!((&config["generation"], &config["last_reload"]["ok"]), (&2.into(), &true.into()));
    assert_eq!(config["last_reload"]["trigger"], "file_changed");
    assert_eq!(config["last_reload"]["changed"][0], "routes[/].respond.body: \"new\", was \"old\"");
    assert_eq!(config["configuration"]["routes"][0]["respond"]["body"], "new");
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_file_may_come_later_and_must_not_go() {
    let folder = tempfile::tempdir().unwrap();
    let (path, keys) = (folder.path().join("gateway.yaml"), folder.path().join("keys.yaml"));
    let routes = "routes:\n- {match: {path: /}, scopes: {all: [read]}, respond: {status: 200, body: open}}\n";
    write(&path, &format!("authentication: {{api_keys: {{file: keys.yaml}}}}\n{routes}"));
    let gateway = Running::watching(&path).await;
    assert_eq!(gateway.get("/").await.status, 401);

    let key = gateway::keys::new(&keys, "partners/acme", &["read".to_owned()], None).unwrap();
    let with_key = async || {
        let mut connection = Connection::open(gateway.address).await;
        connection.send("GET", "/", &[("x-api-key", &key)], "").await.status
    };
    eventually("the new key opens", BOUND, async || (with_key().await == 200).then_some(())).await;
    fs::remove_file(&keys).unwrap();
    eventually("the lost file is told of", BOUND, async || {
        let config = gateway.ops("/config").await;
        (config["last_reload"]["ok"] == false).then_some(())
    })
    .await;
    assert_eq!(with_key().await, 200, "the last good keys are kept");
    gateway.stop().await;
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_one_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    write(&path, &answering("old"));
    let gateway = Running::watching(&path).await;
    write(&path, "routes:\n- {match: {path: /}, proxy: nowhere}\n");
    let errors = eventually("the failed reload", BOUND, async || {
        let config = gateway.ops("/config").await;
        (config["last_reload"]["ok"] == false).then(|| config["last_reload"]["errors"].clone())
    })
    .await;
    assert_eq!(errors[0], "routes[0].proxy: no upstream \"nowhere\"");
    assert_eq!(gateway.get("/").await.body, "old");
    assert_eq!(gateway.ops("/config").await["generation"], 1);
    assert!(telemetry::render().contains("turnpike_gateway_config_reload_total{result=\"error\"}"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_rate_limit_that_stays_goes_on_counting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let limited = |body: &str| {
        format!(
            "routes:\n- match: {{path: /}}\n  respond: {{status: 200, body: {body}}}\n  \
             rate_limit: {{requests: 2, per: 1h, key: client_address}}\n"
        )
    };
    write(&path, &limited("old"));
    let gateway = Running::watching(&path).await;
    assert_eq!(gateway.get("/").await.status, 200);
    write(&path, &limited("new"));
    eventually("the reload", BOUND, async || (gateway.ops("/config").await["generation"] == 2).then_some(())).await;
    assert_eq!(gateway.get("/").await.body, "new");
    assert_eq!(gateway.get("/").await.status, 429);
    gateway.stop().await;
}

/// An upstream that answers when it is told to.
async fn held() -> (SocketAddr, Arc<Notify>, Arc<Notify>) {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&arrived), Arc::clone(&release));
    let address = upstream(move |_| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            Response::new(Full::from("finished"))
        }
    })
    .await;
    (address, arrived, release)
}

#[tokio::test]
async fn a_request_in_flight_finishes_on_the_configuration_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let (address, arrived, release) = held().await;
    let passing =
        format!("upstreams: {{held: {{endpoints: ['{address}']}}}}\nroutes:\n- {{match: {{path: /}}, proxy: held}}\n");
    write(&path, &passing);
    let gateway = Arc::new(Running::watching(&path).await);
    let asked = tokio::spawn({
        let gateway = Arc::clone(&gateway);
        async move { gateway.get("/").await }
    });
    arrived.notified().await;
    write(&path, &answering("new"));
    eventually("the reload", BOUND, async || (gateway.ops("/config").await["generation"] == 2).then_some(())).await;
    assert_eq!(gateway.get("/").await.body, "new");
    release.notify_one();
    assert_eq!(asked.await.unwrap().body, "finished");
}

#[tokio::test]
async fn a_drain_finishes_what_is_open_and_takes_nothing_new() {
    let (address, arrived, release) = held().await;
    let gateway = Running::start(&format!(
        "upstreams: {{held: {{endpoints: ['{address}']}}}}\nroutes:\n- {{match: {{path: /}}, proxy: held}}\n"
    ))
    .await;
    let mut connection = Connection::open(gateway.address).await;
    let asked = tokio::spawn(async move { connection.send("GET", "/", &[], "").await });
    arrived.notified().await;
    assert!(gateway.readiness.is_ready());
    gateway.shutdown.begin(Duration::from_secs(30));
    eventually("no new connection", BOUND, async || {
        tokio::net::TcpStream::connect(gateway.address).await.is_err().then_some(())
    })
    .await;
    assert!(!gateway.readiness.is_ready());
    release.notify_one();
    let answer = asked.await.unwrap();
    assert_eq!(answer.body, "finished");
    gateway.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let gateway = Running::start(&answering("first")).await;
    let options = Options {
        source: ConfigSource::Text {
            text: format!("listeners: [{{address: '{}'}}]\n", gateway.address),
            properties: Properties::new(),
        },
        descriptors: Default::default(),
        root: principal::RootSecret::generate(),
        bus: None,
        cores: Some(1),
    };
    let error = gateway::build(options).await.err().unwrap();
    assert!(format!("{error:#}").contains("is another process on it?"), "{error:#}");
    assert_eq!(gateway.get("/").await.body, "first");
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_built_knows_its_address_before_it_runs() {
    let options = Options {
        source: ConfigSource::Text { text: LISTENER.to_owned(), properties: Properties::new() },
        descriptors: Default::default(),
        root: principal::RootSecret::generate(),
        bus: None,
        cores: None,
    };
    let gateway = gateway::build(options).await.unwrap();
    assert_ne!(gateway.address().unwrap().port(), 0);
    assert!(!gateway.readiness().is_ready());
}
