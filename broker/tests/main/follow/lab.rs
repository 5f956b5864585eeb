//! One bus, any number of brokers on it, and clients on each transport.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use broker::{Bridge, Broker, Config, Settings, Signals};
use bus::{
    Bus,
    sqlite::{Options, Sqlite},
};
use bytes::Bytes;
use events::{Envelope, Name};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use lifecycle::{Readiness, Role as _, Shutdown};
use parking_lot::Mutex;
use principal::{Issuer, Keys, METADATA, Principal, RootSecret, Signer};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::CloseFrame},
};

use crate::site::SOON;

pub const ALL: &[&str] = &["events:read:*/*", "events:write:*/*"];

/// A clock that moves when told.
#[derive(Clone)]
struct Manual(Arc<Mutex<OffsetDateTime>>);

impl bus::Clock for Manual {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock()
    }
}

pub struct Lab {
    pub bus: Bus,
    clock: Manual,
    signer: Signer,
    root: RootSecret,
    path: PathBuf,
    _folder: TempDir,
}

/// A broker that runs until it is dropped or stopped.
pub struct Running {
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    ran: JoinHandle<anyhow::Result<()>>,
}

impl Lab {
    pub async fn open() -> Self {
        Self::of(RootSecret::generate()).await
    }

    /// Another bus, of the same system.
    pub async fn sibling(&self) -> Self {
        Self::of(self.root.clone()).await
    }

    async fn of(root: RootSecret) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus.db");
        let clock = Manual(Arc::new(Mutex::new(OffsetDateTime::now_utc())));
        let bus = open(&path, &clock).await;
        Self { bus, clock, signer: Signer::new("gateway", &root), root, path, _folder: folder }
    }

    pub async fn broker(&self) -> Running {
        self.broker_with(Settings::default()).await
    }

    pub async fn broker_with(&self, settings: Settings) -> Running {
        self.broker_on(self.bus.clone(), settings).await
    }

    /// As another process would have it: with a connection of its own.
    pub async fn broker_on(&self, bus: Bus, settings: Settings) -> Running {
        let broker = self.built(bus, settings).await;
        Running::start(broker)
    }

    /// One that bridges channels of Redis, too.
    pub async fn broker_bridging(&self, bus: Bus, settings: Settings, bridge: Bridge) -> Running {
        Running::start(self.built(bus, settings).await.bridging(bridge))
    }

    /// One whose memory is used so far, in percent, and whether it is ready.
    pub async fn broker_with_memory(&self, used: Arc<AtomicU32>, settings: Settings) -> (Running, Readiness) {
        let broker = self.built(self.bus.clone(), settings).await;
        let memory = move || f64::from(used.load(Ordering::Relaxed)) / 100.0;
        let broker = broker.measured_by(move || Signals { memory: memory(), ..Signals::default() });
        let readiness = broker.readiness();
        (Running::start(broker), readiness)
    }

    async fn built(&self, bus: Bus, settings: Settings) -> Broker {
        let issuers = vec![Issuer { name: "gateway".to_owned(), keys: Keys::Inline(self.signer.jwks()) }];
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            bus,
            issuers,
            root: Some(self.root.clone()),
            database: None,
            settings,
        };
        broker::build(config).await.unwrap()
    }

    /// Closes the bus, which nobody may hold any more, and opens it again.
    pub async fn reopen(self) -> Self {
        let Self { bus, clock, signer, root, path, _folder } = self;
        drop(bus);
        let bus = open(&path, &clock).await;
        Self { bus, clock, signer, root, path, _folder }
    }

    /// So much later, what is due has been done.
    pub async fn advance(&self, by: Duration) {
        *self.clock.0.lock() += by;
        for _ in 0..5 {
            *self.clock.0.lock() += Duration::from_secs(20);
            self.bus.groups().await.unwrap();
        }
    }

    /// So much later.
    pub fn later(&self, by: Duration) {
        *self.clock.0.lock() += by;
    }

    pub fn token(&self, subject: &str, scopes: &[&str]) -> String {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        self.signer.sign(&Principal { subject: subject.to_owned(), scopes, ..Principal::default() })
    }

    /// Somebody who may read and publish everything.
    pub fn alice(&self) -> String {
        self.token("alice", ALL)
    }

    /// Somebody who may work for any group, too.
    pub fn operator_who_reads(&self) -> String {
        self.token("operators/1", &["events:read:*/*", "events:write:*/*", "bus:admin"])
    }

    pub async fn publish(&self, address: &str, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            self.bus.publish(vec![event(address, &id.to_string())]).await.unwrap()[0].as_ref().unwrap();
        }
    }
}

async fn open(path: &std::path::Path, clock: &Manual) -> Bus {
    Bus::new(Sqlite::open(path, Options { clock: Arc::new(clock.clone()), ..Options::default() }).await.unwrap())
}

pub fn event(address: &str, id: &str) -> Envelope {
    let (queue, event) = address.split_once('/').unwrap();
    Envelope::new("/services/test", Name::new(queue).unwrap(), Name::new(event).unwrap())
        .id(id)
        .partitionkey("k")
        .data(json!({ "n": id }))
}

impl Running {
    fn start(broker: Broker) -> Self {
        let (address, shutdown) = (broker.address().unwrap(), Shutdown::new());
        let ran = tokio::spawn(Box::new(broker).run(shutdown.clone()));
        Self { address, shutdown, ran }
    }

    /// Stops as a role is stopped that has this long; returns when it has.
    pub async fn stop(mut self, patience: Duration) {
        self.shutdown.begin(patience);
        timeout(patience + SOON, &mut self.ran).await.expect("it stops").unwrap().unwrap();
    }

    pub async fn ws(&self, token: &str) -> Ws {
        let mut ws = self.ws_silent(token).await;
        ws.send(json!({ "hello": { "v": 1, "client": "test" } })).await;
        assert!(ws.next().await["welcome"]["conn"].is_string());
        ws
    }

    /// Of nobody in particular.
    pub async fn ws_anonymous(&self) -> Ws {
        let mut ws = self.ws_anonymous_silent().await;
        ws.send(json!({ "hello": { "v": 1 } })).await;
        assert!(ws.next().await["welcome"]["conn"].is_string());
        ws
    }

    /// Without having said hello, of nobody in particular.
    pub async fn ws_anonymous_silent(&self) -> Ws {
        self.upgraded(None).await
    }

    /// Without having said hello.
    pub async fn ws_silent(&self, token: &str) -> Ws {
        self.upgraded(Some(token)).await
    }

    async fn upgraded(&self, token: Option<&str>) -> Ws {
        Ws::upgraded(self.address, token).await
    }

    pub async fn sse(&self, token: &str, query: &str, last_event_id: Option<&str>) -> Sse {
        let mut headers = vec![(METADATA, token), ("accept", "text/event-stream")];
        headers.extend(last_event_id.map(|id| ("last-event-id", id)));
        let response = self.get(&format!("/events?{query}"), &headers).await;
        let mut sse = Sse::of(response);
        assert_eq!(sse.next().await.unwrap().event, "cursor", "where it is, at once");
        sse
    }

    pub async fn poll(&self, token: &str, query: &str) -> Polled {
        let response = self.get(&format!("/events?{query}"), &[(METADATA, token)]).await;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (cursor, retry_after) = (header("turnpike-cursor"), header("retry-after"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Polled { status, cursor: cursor.unwrap_or_default(), retry_after, body }
    }

    /// The status that a document is answered with.
    pub async fn post(&self, token: &str, path: &str, media: &str, body: &str) -> u16 {
        let request = Request::post(path).header("host", "broker").header(METADATA, token);
        let request = request.header("content-type", media).body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        timeout(SOON, sender.send_request(request)).await.expect("an answer").unwrap().status().as_u16()
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        self.send("GET", path, headers).await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "broker");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        timeout(SOON, sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()))
            .await
            .expect("an answer")
            .unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.escalate();
    }
}

#[derive(Debug)]
pub struct Polled {
    pub status: u16,
    pub cursor: String,
    pub retry_after: Option<String>,
    pub body: Value,
}

impl Polled {
    pub fn ids(&self) -> Vec<String> {
        let events = self.body["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        events.iter().map(|item| item["event"]["id"].as_str().unwrap().to_owned()).collect()
    }
}

pub struct Ws(WebSocketStream<TcpStream>);

impl Ws {
    /// A socket of whoever the token is of, which has said hello.
    pub async fn open(address: SocketAddr, token: &str) -> Self {
        let mut ws = Self::upgraded(address, Some(token)).await;
        ws.send(json!({ "hello": { "v": 1, "client": "test" } })).await;
        assert!(ws.next().await["welcome"]["conn"].is_string());
        ws
    }

    async fn upgraded(address: SocketAddr, token: Option<&str>) -> Self {
        let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
        if let Some(token) = token {
            request.headers_mut().insert(METADATA, token.parse().unwrap());
        }
        request.headers_mut().insert("sec-websocket-protocol", "turnpike.v1".parse().unwrap());
        request.headers_mut().insert("x-forwarded-for", "203.0.113.7".parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        Self(socket)
    }

    pub async fn send(&mut self, frame: Value) {
        self.say(&frame.to_string()).await;
    }

    pub async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    pub async fn raw(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        self.next_within(SOON).await
    }

    /// The next frame, of something that takes its time.
    pub async fn next_within(&mut self, patience: Duration) -> Value {
        loop {
            match timeout(patience, self.0.next()).await.expect("a frame").unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no text: {other:?}"),
            }
        }
    }

    /// The next event's frame; passes over what else is told.
    pub async fn event(&mut self) -> Value {
        loop {
            let mut frame = self.next().await;
            assert!(frame["error"].is_null(), "{frame}");
            if frame["ev"].is_object() {
                return frame["ev"].take();
            }
        }
    }

    pub async fn subscribe(&mut self, name: &str, filter: &str, cursor: &str, credit: usize) -> Value {
        self.send(json!({ "id": name, "sub": { "name": name, "filter": filter, "cursor": cursor, "credit": credit } }))
            .await;
        let mut answer = self.next().await;
        // An earlier subscription may have something to say first.
        while answer["caught_up"].is_object() {
            answer = self.next().await;
        }
        assert_eq!(answer["id"], name, "{answer}");
        assert!(answer["ok"].is_object(), "{answer}");
        answer["ok"].take()
    }

    pub async fn ack(&mut self, name: &str, cursor: &Value) {
        self.send(json!({ "ack": { "sub": name, "cursor": cursor } })).await;
    }

    /// So many events, acknowledged one by one.
    pub async fn take(&mut self, name: &str, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            let event = self.event().await;
            self.ack(name, &event["cursor"]).await;
            events.push(event);
        }
        events
    }

    /// Closes it with this code.
    pub async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.0.close(Some(frame)).await.unwrap();
    }

    /// Why it was closed; what comes before is passed over.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match timeout(SOON, self.0.next()).await.expect("it is closed").unwrap().unwrap() {
                Message::Close(Some(CloseFrame { code, reason })) => return (code.into(), reason.to_string()),
                _ => continue,
            }
        }
    }
}

pub struct Sse {
    body: Incoming,
    text: String,
}

#[derive(Debug, Default)]
pub struct Block {
    pub id: String,
    pub event: String,
    pub data: Value,
    pub retry: Option<String>,
}

impl Sse {
    pub fn of(response: Response<Incoming>) -> Self {
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"text/event-stream".parse().unwrap())
        );
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next block; None at the end. Comments are passed over.
    pub async fn next(&mut self) -> Option<Block> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut message = Block::default();
                for line in block.lines() {
                    match line.split_once(": ").unwrap() {
                        ("id", id) => message.id = id.to_owned(),
                        ("event", event) => message.event = event.to_owned(),
                        ("data", data) => message.data = serde_json::from_str(data).unwrap(),
                        ("retry", retry) => message.retry = Some(retry.to_owned()),
                        ("", _) => {}
                        other => panic!("{other:?}"),
                    }
                }
                let comment = block.starts_with(':');
                self.text = rest.to_owned();
                if !comment {
                    return Some(message);
                }
            }
            let frame = timeout(SOON, self.body.frame()).await.expect("a part of the stream")?;
            self.text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
    }

    pub async fn event(&mut self) -> Block {
        loop {
            let message = self.next().await.expect("an event before the end");
            if message.event == "event" {
                return message;
            }
        }
    }

    pub async fn take(&mut self, count: usize) -> Vec<Block> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.push(self.event().await);
        }
        messages
    }
}

pub fn id(told: &Value) -> &str {
    told["event"]["id"].as_str().unwrap()
}
