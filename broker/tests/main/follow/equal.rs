//! C14: three clients, a transport each, that know nothing but their cursor see the same events, whatever dies meanwhile; and
//! what can't be told any more is told as the gap it is.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use broker::Settings;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use principal::METADATA;
use serde_json::{Value, json};
use testkit::FaultProxy;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use super::lab::{Lab, event};
use crate::site::SOON;

/// Longer than a heartbeat: who hears nothing for so long comes again.
const SILENCE: Duration = Duration::from_secs(5);

/// What a client was told, and where it goes on.
#[derive(Default)]
struct Seen {
    ids: Vec<String>,
    gaps: Vec<Value>,
    cursor: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Transport {
    WebSocket,
    Sse,
    LongPoll,
}

struct Client {
    transport: Transport,
    token: String,
    /// Where nodes can be reached, for now.
    nodes: Arc<Mutex<Vec<SocketAddr>>>,
    seen: Arc<Mutex<Seen>>,
}

impl Client {
    /// Comes again and again, from where it was.
    async fn run(self) {
        for attempt in 0_usize.. {
            let node = {
                let nodes = self.nodes.lock();
                nodes[attempt % nodes.len()]
            };
            let _ = match self.transport {
                Transport::WebSocket => self.socket(node).await,
                Transport::Sse => self.stream(node).await,
                Transport::LongPoll => self.poll(node).await,
            };
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn event(&self, told: &Value) {
        let mut seen = self.seen.lock();
        seen.ids.push(told["event"]["id"].as_str().unwrap().to_owned());
        seen.cursor = Some(told["cursor"].as_str().unwrap().to_owned());
    }

    fn gap(&self, gap: &Value) {
        let mut seen = self.seen.lock();
        seen.cursor = Some(gap["to"].as_str().unwrap().to_owned());
        seen.gaps.push(gap.clone());
    }

    fn cursor(&self) -> Option<String> {
        self.seen.lock().cursor.clone()
    }

    async fn socket(&self, node: SocketAddr) -> Option<()> {
        let mut request = format!("ws://{node}/ws").into_client_request().ok()?;
        request.headers_mut().insert(METADATA, self.token.parse().ok()?);
        request.headers_mut().insert("sec-websocket-protocol", "turnpike.v1".parse().ok()?);
        let stream = TcpStream::connect(node).await.ok()?;
        let opening = tokio_tungstenite::client_async(request, stream);
        let (mut ws, _) = timeout(SILENCE, opening).await.ok()?.ok()?;
        let cursor = self.cursor().unwrap_or_else(|| "earliest".to_owned());
        let sub = json!({ "id": 1, "sub": { "name": "s", "filter": "DB/*", "cursor": cursor, "credit": 64 } });
        for frame in [json!({ "hello": { "v": 1 } }), sub] {
            ws.send(Message::text(frame.to_string())).await.ok()?;
        }
        loop {
            let Message::Text(text) = timeout(SILENCE, ws.next()).await.ok()??.ok()? else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["error"].is_object() {
                return None;
            }
            if frame["gap"].is_object() {
                self.gap(&frame["gap"]);
            }
            if frame["ev"].is_object() {
                self.event(&frame["ev"]);
                let ack = json!({ "ack": { "sub": "s", "cursor": frame["ev"]["cursor"] } });
                ws.send(Message::text(ack.to_string())).await.ok()?;
            }
        }
    }

    async fn ask(&self, node: SocketAddr, path: &str, accept: &str) -> Option<http::Response<Incoming>> {
        let stream = TcpStream::connect(node).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "broker").header("accept", accept);
        let request = request.header(METADATA, &self.token).body(Empty::<Bytes>::new()).ok()?;
        let answer = timeout(SILENCE, sender.send_request(request)).await.ok()?.ok()?;
        answer.status().is_success().then_some(answer)
    }

    async fn stream(&self, node: SocketAddr) -> Option<()> {
        let from = self.cursor().map_or_else(|| "from=earliest".to_owned(), |cursor| format!("last_event_id={cursor}"));
        let mut body = self.ask(node, &format!("/events?filter=DB/*&{from}"), "text/event-stream").await?.into_body();
        let mut text = String::new();
        loop {
            let frame = timeout(SILENCE, body.frame()).await.ok()??.ok()?;
            text.push_str(std::str::from_utf8(frame.data_ref()?).unwrap());
            while let Some((block, rest)) = text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
                text = rest;
                let of = |field: &str| block.lines().find_map(|line| line.strip_prefix(field));
                let (Some(name), Some(data)) = (of("event: "), of("data: ")) else { continue };
                let data: Value = serde_json::from_str(data).unwrap();
                match name {
                    "event" => self.event(&data),
                    "gap" => self.gap(&data),
                    _ => {}
                }
            }
        }
    }

    async fn poll(&self, node: SocketAddr) -> Option<()> {
        loop {
            let from = self.cursor().map_or_else(|| "from=earliest".to_owned(), |cursor| format!("cursor={cursor}"));
            let path = format!("/events?filter=DB/*&wait=2s&limit=16&{from}");
            let answer = self.ask(node, &path, "application/json").await?;
            let cursor = answer.headers().get("turnpike-cursor")?.to_str().ok()?.to_owned();
            let body = timeout(SILENCE, answer.into_body().collect()).await.ok()?.ok()?.to_bytes();
            if !body.is_empty() {
                let told: Value = serde_json::from_slice(&body).unwrap();
                if told["gap"].is_object() {
                    self.gap(&told["gap"]);
                }
                told["events"].as_array().unwrap().iter().for_each(|event| self.event(event));
            }
            self.seen.lock().cursor = Some(cursor);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_transport_sees_the_same_whatever_dies() {
    let mut redis = testkit::redis().await;
    // For the keys alone: the brokers are on Redis.
    let lab = Lab::open().await;
    let url = redis.url();
    let connect = async || bus::redis::open(&url).await.unwrap();
    let services = connect().await;
    let settings =
        Settings { heartbeat: Duration::from_secs(1), cursor_every: Duration::from_secs(1), ..Settings::default() };
    let one = lab.broker_on(connect().await, settings.clone()).await;
    let other = lab.broker_on(connect().await, settings.clone()).await;
    let cuts = [FaultProxy::start(one.address, 1).await, FaultProxy::start(other.address, 2).await];
    let nodes = Arc::new(Mutex::new(cuts.iter().map(FaultProxy::address).collect::<Vec<_>>()));

    let mut clients = Vec::new();
    for transport in [Transport::WebSocket, Transport::Sse, Transport::LongPoll] {
        let seen = Arc::<Mutex<Seen>>::default();
        let client = Client { transport, token: lab.alice(), nodes: nodes.clone(), seen: seen.clone() };
        clients.push((transport, seen, tokio::spawn(client.run())));
    }
    let publish = async |ids: std::ops::Range<u32>| {
        for n in ids {
            let event = vec![event("DB/CREATE", &n.to_string())];
            // A publish that Redis's end cut off may be done again: its id is known.
            testkit::eventually("it is published", SOON, || async {
                services.publish(event.clone()).await.ok()?.remove(0).ok()
            })
            .await;
        }
    };
    let have = async |count: usize| {
        testkit::eventually("everybody has them", Duration::from_secs(60), || async {
            clients.iter().all(|(_, seen, _)| seen.lock().ids.len() >= count).then_some(())
        })
        .await;
    };

    publish(0..60).await;
    cuts.iter().for_each(FaultProxy::cut);
    publish(60..120).await;
    // A node dies, and another one comes.
    one.shutdown.escalate();
    let third = lab.broker_on(connect().await, settings).await;
    nodes.lock()[0] = third.address;
    publish(120..180).await;
    redis.kill();
    redis.restart().await;
    publish(180..240).await;
    cuts.iter().for_each(FaultProxy::cut);
    publish(240..300).await;
    have(300).await;
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    for (transport, seen, _) in &clients {
        let seen = seen.lock();
        assert_eq!(seen.ids, expected, "{transport:?}: each once, in their order");
        assert_eq!(seen.gaps, Vec::<Value>::new(), "{transport:?}: nothing was lost");
    }

    redis.command(&["FLUSHALL"]);
    publish(300..330).await;
    have(330).await;
    for (transport, seen, running) in &clients {
        let seen = seen.lock();
        let after: BTreeSet<&String> = seen.ids[300..].iter().collect();
        assert_eq!(after, (300..330).map(|n| n.to_string()).collect::<Vec<_>>().iter().collect(), "{transport:?}");
        let gaps: Vec<_> = seen.gaps.iter().map(|gap| (&gap["reason"], &gap["lost"], &gap["queue"])).collect();
        assert_eq!(gaps, [(&json!("reset"), &Value::Null, &json!("DB"))], "{transport:?}: the log began anew, once");
        running.abort();
    }
    drop((other, third));
}
