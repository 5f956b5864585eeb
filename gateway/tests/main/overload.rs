//! Too much for one process: what is refused, what still works, and that it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gateway::Gauges;
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::running::{Connection, Running, upstream};

const BOUND: Duration = Duration::from_secs(20);
const OPEN: &str = "routes: [{match: {path: /}, respond: {status: 200, body: in}}]\n";

/// A gateway that uses so many thousandths of its memory as the number says.
async fn using(share: u64, sections: &str) -> (Running, Arc<AtomicU64>) {
    let used = Arc::new(AtomicU64::new(share));
    let gauge = Arc::clone(&used);
    let gateway = Running::gauged(sections, Gauges::default().of_memory(move || (gauge.load(Relaxed), 1000))).await;
    (gateway, used)
}

async fn level(gateway: &Running, wanted: &str) {
    let is = async || (gateway.ops("/overload").await["level"] == wanted).then_some(());
    eventually(&format!("the level is {wanted}"), BOUND, is).await;
}

#[tokio::test]
async fn where_memory_runs_out_requests_are_refused_and_operators_see_why() {
    let (gateway, used) = using(500, OPEN).await;
    let mut connection = Connection::open(gateway.address).await;
    assert_eq!(connection.send("GET", "/", &[], "").await.status, 200);
    used.store(960, Relaxed);
    level(&gateway, "shed").await;
    let refused = gateway.get("/").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after").as_str()), (503, "5"));
    assert_eq!(refused.problem()["type"], "https://turnpike.dev/problems/overloaded");
    let shown = gateway.ops("/overload").await;
    assert!(shown["reasons"][0].as_str().unwrap().starts_with("96 % of 1000 bytes"), "{shown}");
    assert!(telemetry::render().contains("turnpike_gateway_shed_total{reason=\"memory\""));
    used.store(910, Relaxed);
    level(&gateway, "close_connections").await;
    assert_eq!(gateway.get("/").await.status, 200, "again");
    gateway.stop().await;
}

#[tokio::test]
async fn where_memory_becomes_scarce_connections_are_closed() {
    let (gateway, used) = using(500, OPEN).await;
    let mut idle = TcpStream::connect(gateway.address).await.unwrap();
    assert!(ask(&mut idle).await && ask(&mut idle).await);
    used.store(930, Relaxed);
    level(&gateway, "close_connections").await;
    is_closed(idle).await;
    let another = async || {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        // It may be looked at before its request is here.
        ask(&mut socket).await.then_some(socket)
    };
    is_closed(eventually("another has its answer", BOUND, another).await).await;
    gateway.stop().await;
}

async fn is_closed(mut socket: TcpStream) {
    let mut rest = Vec::new();
    assert!(timeout(BOUND, socket.read_to_end(&mut rest)).await.is_ok() && rest.is_empty(), "{rest:?}");
}

/// Whether a request is answered before the connection ends.
async fn ask(socket: &mut TcpStream) -> bool {
    _ = socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"in") {
        if !matches!(socket.read_buf(&mut answer).await, Ok(1..)) {
            return false;
        }
    }
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn where_there_is_no_memory_left_nobody_is_connected_until_there_is() {
    let (gateway, used) = using(990, OPEN).await;
    level(&gateway, "stop_accepting").await;
    // The kernel connects it; what is sent waits.
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let waiting = ask(&mut socket);
    tokio::pin!(waiting);
    assert!(timeout(Duration::from_millis(500), &mut waiting).await.is_err());
    used.store(100, Relaxed);
    assert_eq!(timeout(BOUND, waiting).await, Ok(true));
    gateway.stop().await;
}

#[tokio::test]
async fn where_memory_becomes_scarce_requests_have_half_of_their_time() {
    let silent = upstream(|_| std::future::pending()).await;
    let sections = format!(
        "upstreams: {{web: {{endpoints: ['{silent}']}}}}\n\
         routes: [{{match: {{path: /}}, timeout: 12s, proxy: web}}]\n"
    );
    let (gateway, _used) = using(860, &sections).await;
    level(&gateway, "shorten_timeouts").await;
    let start = std::time::Instant::now();
    assert_eq!(gateway.get("/").await.status, 504);
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
    gateway.stop().await;
}

#[tokio::test]
async fn a_core_that_is_late_refuses_requests_and_the_other_does_not() {
    let late = Arc::new(AtomicU64::new(0));
    let gauge = Arc::clone(&late);
    let delay = move |core| Duration::from_millis(if core == 0 { gauge.load(Relaxed) } else { 0 });
    let gateway = Running::gauged(OPEN, Gauges::default().of_delay(delay)).await;
    late.store(400, Relaxed);
    let refuses = async |wanted: bool| {
        let is = async || (gateway.ops("/overload").await["cores"][0]["refuses"] == wanted).then_some(());
        eventually("the first core changes its mind", BOUND, is).await;
    };
    refuses(true).await;
    // Which core has a connection is the kernel's to say.
    let mut statuses = std::collections::BTreeSet::new();
    for _ in 0..60 {
        statuses.insert(gateway.get("/").await.status.as_u16());
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [200, 503]);
    let shown = gateway.ops("/overload").await;
    assert!(shown["reasons"][0].as_str().unwrap().starts_with("core 0 is"), "{shown}");
    late.store(0, Relaxed);
    refuses(false).await;
    assert_eq!(gateway.get("/").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn what_contradicts_itself_is_refused_with_its_place() {
    let text = format!("{}routes: []\noverload: {{shed: 0.5, delay: 1ms}}\n", crate::running::LISTENER);
    let errors =
        gateway::check(&text, &gateway::Properties::new(), None, &std::collections::BTreeMap::new()).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["overload.shed", "overload.delay"]);
}
