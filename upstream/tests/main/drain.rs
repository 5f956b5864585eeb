//! An endpoint that is gone from its source gets nothing new, and finishes what it has.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use upstream::{Body, Config, Endpoint, Protocol, Upstream};

use crate::{
    name_server::NameServer,
    service::{SAFE, Service, UNSAFE, get, hello, text, until},
};

const THINGS: &str = "_http._tcp.things.test";

/// A name server, and an upstream that goes by it.
struct Scene {
    names: NameServer,
    upstream: Upstream,
    _watch: DropGuard,
}

impl Scene {
    async fn new(protocol: Protocol, services: &[&Service]) -> Self {
        Self::with(protocol, services, Duration::from_secs(300)).await
    }

    async fn with(protocol: Protocol, services: &[&Service], drain: Duration) -> Self {
        let names = NameServer::start().await;
        names.say_addresses("things.test", 60, &[1]);
        let config = Config::new("things", vec![format!("srv://{THINGS}")], protocol);
        let upstream = Upstream::new(Config { name_servers: vec![names.address], drain, ..config }).unwrap();
        let stop = CancellationToken::new();
        let (watched, stopped) = (upstream.clone(), stop.clone());
        tokio::spawn(async move { watched.watch(stopped).await });
        let scene = Self { names, upstream, _watch: stop.drop_guard() };
        scene.are(services);
        until("they are found", || scene.upstream.endpoints().len() == services.len()).await;
        scene
    }

    /// From now on there are these.
    fn are(&self, services: &[&Service]) {
        let targets: Vec<_> = services.iter().map(|one| (0, 1, one.address.port(), "things.test")).collect();
        self.names.say_targets(THINGS, 1, &targets);
    }

    fn draining(&self) -> Vec<Endpoint> {
        self.upstream.endpoints().into_iter().filter(|one| one.draining).collect()
    }
}

fn protocol(http2: bool) -> Protocol {
    if http2 { Protocol::Http2 } else { Protocol::Http1 }
}

/// Answers `/stream` by what comes from a channel, and the rest at once.
async fn streaming(http2: bool) -> (Service, mpsc::Sender<&'static str>) {
    let (send, receive) = mpsc::channel::<&'static str>(1);
    let receive = Arc::new(std::sync::Mutex::new(Some(receive)));
    let handler = move |request: http::Request<hyper::body::Incoming>| {
        let receive = (request.uri().path() == "/stream").then(|| receive.lock().unwrap().take()).flatten();
        async move {
            let Some(receive) = receive else { return hello(request).await };
            let frames = ReceiverStream::new(receive).map(|said| Ok::<_, Infallible>(Frame::data(Bytes::from(said))));
            Response::new(Body::new(StreamBody::new(frames)))
        }
    };
    (if http2 { Service::http2(handler).await } else { Service::http1(handler).await }, send)
}

#[tokio::test]
async fn idle_connections_are_closed_at_once_though_nobody_asks() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let one = if protocol == Protocol::Http1 { Service::http1(hello).await } else { Service::http2(hello).await };
        let two = if protocol == Protocol::Http1 { Service::http1(hello).await } else { Service::http2(hello).await };
        let scene = Scene::new(protocol, &[&one]).await;
        let clients = [scene.upstream.client(), scene.upstream.client()];
        for client in &clients {
            text(client.send(get("/"), SAFE).await.unwrap()).await;
        }
        assert_eq!(one.open(), 2, "one a client");
        scene.are(&[&two]);
        until("they are closed", || one.open() == 0).await;
        assert!(scene.draining().is_empty(), "there was nothing to finish");
        text(clients[0].send(get("/"), SAFE).await.unwrap()).await;
        assert_eq!((one.requests(), two.requests()), (2, 1));
    }
}

#[tokio::test]
async fn a_stream_goes_on_and_its_connection_is_closed_behind_it() {
    for http2 in [false, true] {
        let (one, say) = streaming(http2).await;
        let two = if http2 { Service::http2(hello).await } else { Service::http1(hello).await };
        let scene = Scene::new(protocol(http2), &[&one]).await;
        let client = scene.upstream.client();
        let mut stream = client.send(get("/stream"), UNSAFE).await.unwrap().into_body();
        say.send("before").await.unwrap();
        assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "before");

        scene.are(&[&two]);
        until("the first drains", || scene.draining().len() == 1).await;
        let draining = &scene.draining()[0];
        assert_eq!((&draining.address, draining.in_flight), (&one.address.to_string(), 1));
        for _ in 0..10 {
            text(client.send(get("/"), SAFE).await.unwrap()).await;
        }
        assert_eq!((one.requests(), two.requests()), (1, 10));
        say.send("after").await.unwrap();
        assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "after");
        assert_eq!(one.open(), 1);

        drop(say);
        assert!(stream.collect().await.unwrap().to_bytes().is_empty());
        until("its connection is closed", || one.open() == 0).await;
        assert!(scene.draining().is_empty());
    }
}

#[tokio::test]
async fn what_takes_too_long_is_cut() {
    for http2 in [false, true] {
        let (one, say) = streaming(http2).await;
        let two = if http2 { Service::http2(hello).await } else { Service::http1(hello).await };
        let scene = Scene::with(protocol(http2), &[&one], Duration::from_secs(1)).await;
        let client = scene.upstream.client();
        let mut stream = client.send(get("/stream"), UNSAFE).await.unwrap().into_body();
        say.send("before").await.unwrap();
        stream.frame().await.unwrap().unwrap();
        scene.are(&[&two]);
        // Nobody says anything more.
        let cut = tokio::time::timeout(Duration::from_secs(20), stream.frame()).await.unwrap();
        assert!(cut.unwrap().is_err());
        drop(stream);
        until("its connection is closed", || one.open() == 0).await;
        assert!(scene.draining().is_empty());
        text(client.send(get("/"), SAFE).await.unwrap()).await;
    }
}

#[tokio::test]
async fn of_two_requests_the_first_to_end_closes_its_connection_too() {
    let leave = Arc::new(Semaphore::new(0));
    let awaited = Arc::clone(&leave);
    let one = Service::http1(move |request| {
        let leave = Arc::clone(&awaited);
        async move {
            leave.acquire().await.unwrap().forget();
            hello(request).await
        }
    })
    .await;
    let two = Service::http1(hello).await;
    let scene = Scene::new(Protocol::Http1, &[&one]).await;
    let client = scene.upstream.client();
    let ask = || {
        let client = client.clone();
        tokio::spawn(async move { text(client.send(get("/"), UNSAFE).await.unwrap()).await })
    };
    let both = [ask(), ask()];
    until("both are there", || one.requests() == 2).await;
    scene.are(&[&two]);
    until("the first drains", || scene.draining().iter().any(|draining| draining.in_flight == 2)).await;
    leave.add_permits(1);
    until("one connection is closed", || one.open() == 1).await;
    assert_eq!(scene.draining()[0].in_flight, 1);
    leave.add_permits(1);
    for answer in both {
        assert_eq!(answer.await.unwrap(), "hello");
    }
    until("both are", || one.open() == 0 && scene.draining().is_empty()).await;
}

#[tokio::test]
async fn who_comes_back_is_another_endpoint_while_the_one_before_drains() {
    let (one, say) = streaming(true).await;
    let two = Service::http2(hello).await;
    let scene = Scene::new(Protocol::Http2, &[&one]).await;
    let client = scene.upstream.client();
    let mut stream = client.send(get("/stream"), UNSAFE).await.unwrap().into_body();
    say.send("before").await.unwrap();
    stream.frame().await.unwrap().unwrap();
    scene.are(&[&two]);
    until("the first drains", || scene.draining().len() == 1).await;
    scene.are(&[&one]);
    until("it is back, and the second gone", || {
        let there = scene.upstream.endpoints();
        there.len() == 2 && there.iter().all(|endpoint| endpoint.address == one.address.to_string())
    })
    .await;
    text(client.send(get("/"), SAFE).await.unwrap()).await;
    assert_eq!(one.connections(), 2, "a connection of its own");
    say.send("after").await.unwrap();
    assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), "after");
}
