//! A thousand reloads under load: nobody notices, and nothing is left behind.

use std::{
    convert::Infallible,
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use axum::body::Body as OpsBody;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use gateway::Body;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use testkit::eventually;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_tungstenite::tungstenite::Message;
use tower::ServiceExt as _;

use crate::{
    proxy::{serve, websocket},
    running::{Connection, LISTENER, Running, echo},
};

const RELOADS: usize = 1_000;
/// So many until connections, buffers and the allocator's pools are what they will be.
const WARM_UP: usize = 200;
const BOUND: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_drop_nothing_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let upstreams =
        Upstreams { echo: echo().await, other: echo().await, web: websocket().await, events: events().await };
    write(&path, &upstreams.configuration(0));
    let gateway = Running::watching(&path).await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let streams = [follow_websocket(gateway.address, &stop).await, follow_events(gateway.address, &stop).await];
    let load: Vec<_> =
        ["/fixed", "/steady", "/changing", "/limited"].map(|path| ask(gateway.address, path, &stop, &served)).into();

    let mut before = None;
    for round in 1..=RELOADS {
        if round == WARM_UP {
            before = Some((resident(), descriptors()));
        }
        if round % 100 == 0 {
            write(&path, "routes: [{match: {path: /}, proxy: nowhere}]\n");
            let (status, answer) = reload(&gateway).await;
            assert_eq!((status, &answer["errors"][0]), (422, &"routes[0].proxy: no upstream \"nowhere\"".into()));
        }
        write(&path, &upstreams.configuration(round));
        let (status, answer) = reload(&gateway).await;
        assert_eq!(status, 200, "{answer}");
    }

    let at_least = served.load(SeqCst);
    eventually("everybody is served after the last one", BOUND, async || {
        (served.load(SeqCst) > at_least + 100).then_some(())
    })
    .await;
    let config = gateway.ops("/config").await;
    assert!(config["generation"].as_u64().unwrap() > RELOADS as u64, "{}", config["generation"]);
    // The file is watched as well; once it is still, every core is on the last snapshot, and no other is left.
    eventually("old snapshots are gone", BOUND, async || {
        (gateway.ops("/config").await["snapshots"] == 1).then_some(())
    })
    .await;
    let (memory, open) = before.unwrap();
    let (memory_now, open_now) = (resident(), descriptors());
    assert!(memory_now < memory + (32 << 20), "{} MiB, then {} MiB", memory >> 20, memory_now >> 20);
    assert!(open_now <= open + 16, "{open} descriptors, then {open_now}");

    stop.store(true, SeqCst);
    for task in load.into_iter().chain(streams) {
        let count = task.await.unwrap();
        assert!(count > 100, "only {count} requests or events in all this time");
    }
    gateway.stop().await;
}

struct Upstreams {
    echo: SocketAddr,
    other: SocketAddr,
    web: SocketAddr,
    events: SocketAddr,
}

impl Upstreams {
    /// Each round is different from the one before: another answer, another upstream, another route.
    fn configuration(&self, round: usize) -> String {
        let Self { echo, other, web, events } = self;
        let endpoints = if round.is_multiple_of(2) { format!("'{echo}'") } else { format!("'{echo}', '{other}'") };
        let mut text = format!(
            "upstreams:\n  steady: {{endpoints: ['{echo}']}}\n  changing: {{endpoints: [{endpoints}]}}\n  \
             web: {{endpoints: ['{web}']}}\n  events: {{endpoints: ['{events}']}}\n\
             routes:\n\
             - {{match: {{path: /fixed}}, respond: {{status: 200, body: round {round}}}}}\n\
             - {{match: {{path: /steady}}, proxy: steady}}\n\
             - {{match: {{path: /changing}}, proxy: changing}}\n\
             - {{match: {{path: /ws, method: GET}}, proxy: web}}\n\
             - {{match: {{path: /events}}, proxy: events}}\n\
             - {{match: {{path: /limited}}, proxy: steady, \
                 rate_limit: {{requests: 1000000, per: 1h, key: client_address}}}}\n\
             - {{match: {{path: '/round/{round}'}}, proxy: steady}}\n"
        );
        for number in 0..50 {
            writeln!(text, "- {{match: {{path: '/more/{number}/{{id}}'}}, proxy: steady}}").unwrap();
        }
        text
    }
}

fn write(path: &Path, sections: &str) {
    let next = path.with_extension("next");
    fs::write(&next, format!("{LISTENER}{sections}")).unwrap();
    fs::rename(next, path).unwrap();
}

async fn reload(gateway: &Running) -> (u16, Value) {
    let request = Request::post("/reload").body(OpsBody::empty()).unwrap();
    let answer = gateway.ops.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

/// Asks for a path over and over on one connection, none of which may fail.
fn ask(
    address: SocketAddr,
    path: &'static str,
    stop: &Arc<AtomicBool>,
    served: &Arc<AtomicUsize>,
) -> JoinHandle<usize> {
    let (stop, served) = (Arc::clone(stop), Arc::clone(served));
    tokio::spawn(async move {
        let mut connection = Connection::open(address).await;
        let mut count = 0;
        while !stop.load(Relaxed) {
            let answer = connection.send("GET", path, &[], "").await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            count += 1;
            served.fetch_add(1, SeqCst);
        }
        count
    })
}

/// Sends words through a WebSocket, each of which must come back.
async fn follow_websocket(address: SocketAddr, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/ws"), stream).await.unwrap();
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let mut count = 0;
        while !stop.load(Relaxed) {
            let word = Message::text(count.to_string());
            socket.send(word.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), word);
            count += 1;
        }
        count
    })
}

/// Server-sent events without an end.
async fn events() -> SocketAddr {
    serve(|_| async {
        let frames = futures_util::stream::unfold(0_usize, |sent| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(format!("data: {sent}\n\n")))), sent + 1))
        });
        let mut response = Response::new(Body::new(StreamBody::new(Box::pin(frames))));
        response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
        response
    })
    .await
}

async fn follow_events(address: SocketAddr, stop: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/events").header("host", "gateway.test").body(Full::<Bytes>::default()).unwrap();
    let mut events = sender.send_request(request).await.unwrap().into_body();
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let mut count = 0;
        while !stop.load(Relaxed) {
            let event = events.frame().await.unwrap().unwrap().into_data().unwrap();
            count += String::from_utf8_lossy(&event).matches("data: ").count();
        }
        drop(sender);
        count
    })
}

fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
