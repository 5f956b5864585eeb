//! HTTP/2 clients that attack: their connections end, memory stays, and others are served meanwhile. Clients that mean
//! well are left alone.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use gateway::Body;
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::sleep};

use crate::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, End, HEADERS, PING, PREFACE, PRIORITY,
        RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, asking, field, frame, get,
    },
    proxy::serve,
    running::{Running, upstream},
};

/// What the codec says of resets where it was the first to have enough of them.
const OF_THE_CODEC: [&str; 2] = ["too_many_resets", "too_many_internal_resets"];
/// What the process may grow by under attack. The attacker's own memory is in it.
const MOST: usize = 64 << 20;

fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A gateway that answers `/` itself, `/large` with a megabyte, and `/never` never.
struct Scene {
    gateway: Arc<Running>,
    /// Calls of `/never` that are under way upstream.
    pending: Arc<AtomicUsize>,
    before: usize,
}

struct Pending(Arc<AtomicUsize>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Scene {
    async fn new() -> Self {
        Self::with("{}").await
    }

    async fn with(limits: &str) -> Self {
        let pending = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&pending);
        let never = upstream(move |_| {
            counted.fetch_add(1, Relaxed);
            let pending = Pending(Arc::clone(&counted));
            async move {
                let _pending = pending;
                std::future::pending().await
            }
        })
        .await;
        let large = upstream(|request| async {
            _ = request.into_body().collect().await;
            Response::new(Full::from(vec![b'x'; 1 << 20]))
        })
        .await;
        let gateway = Running::start(&format!(
            "limits: {limits}\n\
             upstreams: {{never: {{endpoints: ['{never}']}}, large: {{endpoints: ['{large}']}}}}\n\
             routes:\n\
             - {{match: {{path: /}}, respond: {{status: 200, body: ok}}}}\n\
             - {{match: {{path: /large}}, proxy: large}}\n\
             - {{match: {{path: /never}}, proxy: never, timeout: 1m}}\n"
        ))
        .await;
        assert_eq!(gateway.get("/").await.status, 200);
        Self { gateway: Arc::new(gateway), pending, before: memory() }
    }

    /// Lets an attack run to its end while others are served.
    async fn withstands<T>(&self, attack: impl Future<Output = T>) -> T {
        let honest = async {
            loop {
                assert_eq!(self.gateway.get("/").await.status, 200);
                let grown = memory().saturating_sub(self.before);
                assert!(grown < MOST, "{} MiB more", grown >> 20);
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            ended = attack => ended,
            () = honest => unreachable!("it never ends"),
        }
    }

    /// Floods, and expects to be told why that is the end: by the guard, or by the codec that was first.
    async fn flooded(&self, first: &[u8], reason: &str, frames: impl FnMut(u32) -> Vec<u8>) -> End {
        let mut raw = Raw::open(&self.gateway, &[]).await;
        raw.send(first).await;
        let end = self.withstands(raw.flood(frames)).await;
        // A reset can overtake what was said last.
        if let Some((code, said)) = &end.goaway {
            let known = said.ends_with(reason) || OF_THE_CODEC.contains(&said.as_str());
            assert!(*code == ENHANCE_YOUR_CALM && known, "{end:?}");
        }
        end
    }

    async fn stop(self) {
        let Self { gateway, .. } = self;
        Arc::into_inner(gateway).unwrap().stop().await;
    }
}

#[tokio::test]
async fn rapid_reset() {
    let scene = Scene::new().await;
    let most = Arc::new(AtomicUsize::new(0));
    let (pending, seen) = (Arc::clone(&scene.pending), Arc::clone(&most));
    let cancel = 8_u32.to_be_bytes();
    scene
        .flooded(&[], "resets", move |round| {
            seen.fetch_max(pending.load(Relaxed), Relaxed);
            let stream = 2 * round + 1;
            [get(stream, "/never"), frame(RST_STREAM, 0, stream, &cancel)].concat()
        })
        .await;
    assert!(most.load(Relaxed) <= 600, "{most:?} at once behind the gateway");
    let pending = &scene.pending;
    testkit::eventually("what was taken back is given up", Duration::from_secs(20), || async {
        (pending.load(Relaxed) == 0).then_some(())
    })
    .await;
    scene.stop().await;
}

#[tokio::test]
async fn made_you_reset() {
    let scene = Scene::new().await;
    // A window that grows beyond what it may be is the gateway's to reset.
    let overflow = 0x7fff_ffff_u32.to_be_bytes();
    let most = Arc::new(AtomicUsize::new(0));
    let (pending, seen) = (Arc::clone(&scene.pending), Arc::clone(&most));
    let end = scene
        .flooded(&[], "mistakes", move |round| {
            seen.fetch_max(pending.load(Relaxed), Relaxed);
            let stream = 2 * round + 1;
            [get(stream, "/never"), frame(WINDOW_UPDATE, 0, stream, &overflow)].concat()
        })
        .await;
    // What one read brings is judged when its resets have gone out.
    assert!(end.frames[usize::from(RST_STREAM)] <= 1_500, "{end:?}");
    assert!(most.load(Relaxed) <= 1_000, "{most:?} at once behind the gateway");
    let pending = &scene.pending;
    testkit::eventually("what was reset is given up", Duration::from_secs(20), || async {
        (pending.load(Relaxed) == 0).then_some(())
    })
    .await;
    scene.stop().await;
}

#[tokio::test]
async fn continuation_flood() {
    let scene = Scene::new().await;
    let begun = frame(HEADERS, END_STREAM, 1, &asking("GET", "/"));
    for payload in [&b""[..], &field("a", "b", false), &field("a", &"b".repeat(16_000), false)] {
        let end = scene.flooded(&begun, "continuations", |_| frame(CONTINUATION, 0, 1, payload)).await;
        assert_eq!(end.frames[usize::from(HEADERS)], 0, "no answer: {end:?}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn settings_flood() {
    let scene = Scene::new().await;
    let end = scene.flooded(&[], "settings", |_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1])).await;
    assert!(end.frames[usize::from(SETTINGS)] <= 200, "{end:?}");
    scene.stop().await;
}

#[tokio::test]
async fn ping_flood() {
    let scene = Scene::new().await;
    let end = scene.flooded(&[], "pings", |_| frame(PING, 0, 0, &[0; 8])).await;
    assert!(end.frames[usize::from(PING)] <= 300, "{end:?}");
    scene.stop().await;
}

#[tokio::test]
async fn priority_flood() {
    let scene = Scene::new().await;
    scene.flooded(&[], "priorities", |round| frame(PRIORITY, 0, 2 * (round % 1000) + 1, &[0, 0, 0, 0, 7])).await;
    scene.flooded(&[], "priorities", |_| frame(0xbe, 0, 0, b"of no known kind")).await;
    scene.stop().await;
}

#[tokio::test]
async fn empty_data_flood() {
    let scene = Scene::new().await;
    let begun = frame(HEADERS, END_HEADERS, 1, &asking("POST", "/never"));
    scene.flooded(&begun, "empty_data", |_| frame(DATA, 0, 1, &[])).await;
    // Nothing but padding is nothing.
    scene.flooded(&begun, "empty_data", |_| frame(DATA, 8, 1, &[2, 0, 0])).await;
    scene.stop().await;
}

#[tokio::test]
async fn window_update_flood() {
    let scene = Scene::new().await;
    scene.flooded(&[], "window_updates", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_header_list_a_little_too_large_is_answered_and_a_bomb_is_not_unpacked() {
    let scene = Scene::new().await;
    // 64 KiB: more than may be, less than the codec reads.
    let mut sender = honest(&scene.gateway).await;
    let mut request = Request::get("http://a.test/");
    for number in 0..9 {
        request = request.header(format!("x-{number}"), "x".repeat(7 << 10));
    }
    let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 431);
    assert_eq!(response.headers()["content-type"], "application/problem+json");

    // One field of 4,000 bytes, then sixteen thousand times the one byte that says: that field again.
    let again = vec![0xbe; 16_000];
    let begun = [asking("GET", "/"), field("x-bomb", &"x".repeat(3_900), true)].concat();
    let begun = frame(HEADERS, END_STREAM | END_HEADERS, 1, &begun);
    let mut raw = Raw::open(&scene.gateway, &[]).await;
    raw.send(&begun).await;
    let attack = async {
        for round in 1..200 {
            let block = [asking("GET", "/"), again.clone()].concat();
            let bomb = frame(HEADERS, END_STREAM | END_HEADERS, 2 * round + 1, &block);
            if tokio::io::AsyncWriteExt::write_all(&mut raw.writing, &bomb).await.is_err() {
                break;
            }
        }
        // Whatever it was told, it is done.
        drop(raw.writing);
        let mut rest = Vec::new();
        _ = tokio::time::timeout(
            Duration::from_secs(20),
            tokio::io::AsyncReadExt::read_to_end(&mut raw.reading, &mut rest),
        )
        .await
        .expect("the gateway closes what the client has closed");
        rest.len()
    };
    let answered = scene.withstands(attack).await;
    assert!(answered < 1 << 20, "{answered} bytes");
    scene.stop().await;
}

/// Time runs five times as fast.
const HASTY: &str = "{patience: {head: 2s, over: 2s, rate: 1KiB}}";

#[tokio::test]
async fn heads_that_are_not_finished() {
    let scene = Scene::with(HASTY).await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    let unfinished: [Vec<u8>; 5] = [
        PREFACE[..7].to_vec(),
        PREFACE.to_vec(),
        [PREFACE, &settings, &[0, 0]].concat(),
        [PREFACE, &settings, &frame(HEADERS, END_STREAM, 1, &asking("GET", "/"))].concat(),
        [PREFACE, &settings, &frame(HEADERS, END_STREAM | END_HEADERS, 1, &asking("GET", "/"))[..12]].concat(),
    ];
    for begun in unfinished {
        let (mut raw, start) = (Raw::dial(&scene.gateway).await, Instant::now());
        raw.send(&begun).await;
        let end = scene.withstands(raw.ended(Duration::from_secs(20))).await;
        assert!(start.elapsed() > Duration::from_secs(1), "{begun:?} {end:?}");
        assert_eq!(end.frames[usize::from(HEADERS)], 0);
    }
    // However it drips.
    let mut raw = Raw::open(&scene.gateway, &[]).await;
    raw.send(&frame(HEADERS, END_STREAM, 1, &asking("GET", "/"))).await;
    let slow = raw.flood_slowly(Duration::from_millis(300), || frame(CONTINUATION, 0, 1, &[]));
    let end = scene.withstands(slow).await;
    assert_eq!(end.goaway, Some((ENHANCE_YOUR_CALM, "slow_head".to_owned())));
    scene.stop().await;
}

#[tokio::test]
async fn bodies_that_trickle() {
    let scene = Scene::with(HASTY).await;
    let begun = frame(HEADERS, END_HEADERS, 1, &asking("POST", "/never"));
    let mut raw = Raw::open(&scene.gateway, &[]).await;
    raw.send(&begun).await;
    let end = scene.withstands(raw.ended(Duration::from_secs(20))).await;
    assert_eq!(end.goaway, Some((ENHANCE_YOUR_CALM, "slow_body".to_owned())), "a body that never begins");
    let mut raw = Raw::open(&scene.gateway, &[]).await;
    raw.send(&begun).await;
    let slow = raw.flood_slowly(Duration::from_millis(100), || frame(DATA, 0, 1, &[7; 20]));
    let end = scene.withstands(slow).await;
    assert_eq!(end.goaway, Some((ENHANCE_YOUR_CALM, "slow_body".to_owned())));
    scene.stop().await;
}

#[tokio::test]
async fn windows_that_stay_shut() {
    let scene = Scene::with(HASTY).await;
    // Of each stream; of the connection alone, which holds the first 65,535 bytes; and one that opens by a byte at a time.
    let (shut, wide) = ([0, 4, 0, 0, 0, 0], [0, 4, 0x7f, 0xff, 0xff, 0xff]);
    for (settings, drips) in [(shut, false), (wide, false), (shut, true)] {
        let attacks = (0..10).map(|_| async {
            let mut raw = Raw::open(&scene.gateway, &settings).await;
            for number in 0..50 {
                raw.send(&get(2 * number + 1, "/large")).await;
            }
            if drips {
                raw.flood_slowly(Duration::from_millis(100), || frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await
            } else {
                raw.ended(Duration::from_secs(20)).await
            }
        });
        for end in scene.withstands(futures_util::future::join_all(attacks)).await {
            assert_eq!(end.goaway, Some((ENHANCE_YOUR_CALM, "slow_read".to_owned())), "{settings:?}");
        }
    }
    scene.stop().await;
}

#[tokio::test]
async fn sockets_that_are_not_read() {
    let scene = Scene::with(HASTY).await;
    let wide = [0, 4, 0x7f, 0xff, 0xff, 0xff];
    let mut raw = Raw::open(&scene.gateway, &wide).await;
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes())).await;
    for number in 0..60 {
        raw.send(&get(2 * number + 1, "/large")).await;
    }
    let closed = async {
        // Writing fails once the gateway has closed; nothing is read.
        while tokio::io::AsyncWriteExt::write_all(&mut raw.writing, &frame(PING, 1, 0, &[0; 8])).await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
    };
    scene.withstands(async { tokio::time::timeout(Duration::from_secs(30), closed).await.expect("still open") }).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_told_to_go() {
    let scene = Scene::with("{patience: {idle: 2s, head: 1s, over: 1s}}").await;
    let mut raw = Raw::open(&scene.gateway, &[]).await;
    raw.send(&get(1, "/")).await;
    let slow = raw.flood_slowly(Duration::from_millis(500), || frame(PING, 0, 0, &[0; 8]));
    let end = scene.withstands(slow).await;
    assert_eq!(end.frames[usize::from(HEADERS)], 1, "it was served: {end:?}");
    assert_eq!(end.goaway.map(|(code, _)| code), Some(0), "pings are no requests, but it did nothing wrong");
    scene.stop().await;
}

/// A client that keeps to the rules.
async fn honest(gateway: &Running) -> SendRequest<Full<Bytes>> {
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    // Which asks for the time of a ping all the while.
    builder.adaptive_window(true);
    let (sender, connection) = builder.handshake(io).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn clients_that_mean_well_are_left_alone() {
    let scene = Scene::new().await;
    let sender = honest(&scene.gateway).await;
    let ask = async |path: &str, body: usize| {
        let request = Request::post(format!("http://a.test{path}")).body(Full::from(vec![7; body])).unwrap();
        let response = sender.clone().send_request(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.into_body().collect().await.unwrap().to_bytes().len()
    };
    for _ in 0..20 {
        let many = (0..100).map(|_| ask("/", 0));
        assert!(futures_util::future::join_all(many).await.iter().all(|length| *length == 2));
    }
    let large = (0..20).map(|_| ask("/large", 1 << 20));
    assert!(futures_util::future::join_all(large).await.iter().all(|length| *length == 1 << 20));
    // Whoever leaves a page takes everything back at once.
    for _ in 0..3 {
        let mut sender = sender.clone();
        let request = || Request::get("http://a.test/never").body(Full::default()).unwrap();
        let asked: Vec<_> = (0..90).map(|_| sender.send_request(request())).collect();
        sleep(Duration::from_millis(50)).await;
        drop(asked);
        assert_eq!(ask("/", 0).await, 2);
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_stream_of_events_may_be_silent() {
    let events = serve(|_| async {
        let frames = futures_util::stream::unfold(0, |sent| async move {
            sleep(Duration::from_secs(if sent == 0 { 0 } else { 5 })).await;
            (sent < 2).then_some((Ok::<_, Infallible>(Frame::data(Bytes::from("data: 1\n\n"))), sent + 1))
        });
        let mut response = Response::new(Body::new(StreamBody::new(Box::pin(frames))));
        response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
        response
    })
    .await;
    let gateway = Running::start(&format!(
        "limits: {{patience: {{head: 1s, over: 1s, idle: 1s}}}}\n\
         upstreams: {{events: {{endpoints: ['{events}']}}}}\n\
         routes: [{{match: {{path: /events}}, proxy: events}}]\n"
    ))
    .await;
    let mut sender = honest(&gateway).await;
    let request = Request::get("http://a.test/events").body(Full::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "data: 1\n\ndata: 1\n\n");
    gateway.stop().await;
}
