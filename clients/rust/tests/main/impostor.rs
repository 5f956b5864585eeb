//! A server that upgrades as a broker does, and then has manners of its own. Most of them it shows to who subscribes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderValue, StatusCode},
        protocol::CloseFrame,
    },
};

pub struct Impostor {
    pub url: String,
    visits: Arc<AtomicUsize>,
}

impl Impostor {
    /// It receives as long as the test runs.
    pub async fn start(manner: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = visits.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let visit = counted.fetch_add(1, Relaxed);
                let manner = manner.clone();
                tokio::spawn(async move { receive(stream, &manner, visit).await });
            }
        });
        Self { url, visits }
    }

    /// Connections that were made to it.
    pub fn visits(&self) -> usize {
        self.visits.load(Relaxed)
    }
}

/// None: its visitor has gone.
async fn receive(stream: TcpStream, manner: &str, visit: usize) -> Option<()> {
    let is_full = manner == "full" && visit == 0;
    #[expect(clippy::result_large_err, reason = "so the library wants it")]
    let answer = move |_: &Request, response: Response| upgrade(response, is_full);
    let socket = tokio_tungstenite::accept_hdr_async(stream, answer).await.ok()?;
    let mut visitor = Visitor { socket, asked: 0 };
    visitor.frame().await?;
    match manner {
        "silent" => loop {
            visitor.frame().await?;
        },
        "chatty" => loop {
            visitor.say(r#"{"weather":{"rain":true}}"#).await?;
            if let Ok(gone) = timeout(Duration::from_millis(20), visitor.frame()).await {
                gone?;
            }
        },
        _ => {}
    }
    let ping = if manner == "odd" { u64::MAX } else { 25_000 };
    visitor.say(&json!({ "welcome": { "conn": "c_1", "ping_ms": ping, "max_bytes": 1 << 20 } }).to_string()).await?;
    loop {
        let frame = visitor.frame().await?;
        if let Some(name) = frame["sub"]["name"].as_str() {
            visitor.subscribed(manner, &frame["id"], name).await?;
        } else if let Some(id) = frame["pub"]["id"].as_str() {
            visitor.published(manner, &frame["id"], id).await?;
        } else if frame["ping"].is_object() {
            visitor.say(&json!({ "id": frame["id"], "ok": {} }).to_string()).await?;
        }
    }
}

#[expect(clippy::result_large_err, reason = "so the library wants it")]
fn upgrade(mut response: Response, is_full: bool) -> Result<Response, ErrorResponse> {
    if !is_full {
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("turnpike.v1"));
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(Some(r#"{"detail":"as many as it takes"}"#.to_owned()));
    *refusal.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    refusal.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    Err(refusal)
}

struct Visitor {
    socket: WebSocketStream<TcpStream>,
    /// Subscriptions and publishes so far.
    asked: usize,
}

impl Visitor {
    async fn frame(&mut self) -> Option<Value> {
        loop {
            if let Message::Text(text) = self.socket.next().await?.ok()? {
                return serde_json::from_str(&text).ok();
            }
        }
    }

    async fn say(&mut self, text: &str) -> Option<()> {
        self.socket.send(Message::text(text)).await.ok()
    }

    async fn subscribed(&mut self, manner: &str, id: &Value, name: &str) -> Option<()> {
        self.asked += 1;
        let ok = json!({ "id": id, "ok": { "cursor": "c0", "replaying": 1 } }).to_string();
        let event = json!({ "id": "1", "source": "/x", "queue": "DB", "event": "CREATE", "data": { "n": 1 } });
        match manner {
            "nonsense" => self.say("nonsense").await,
            "empty" => self.say("{}").await,
            "huge" => self.say(&"x".repeat(5 << 20)).await,
            "binary" => self.socket.send(Message::binary(vec![0; 8])).await.ok(),
            "placeless" => {
                self.say(&ok).await?;
                self.say(&json!({ "ev": { "sub": name, "event": event } }).to_string()).await
            }
            "restless" | "dismissing" | "lingering" => {
                let goaway = json!({ "reason": "because", "retry": manner != "dismissing", "after_ms": [0, 0] });
                self.say(&json!({ "goaway": goaway }).to_string()).await?;
                if manner != "lingering" {
                    let frame = CloseFrame { code: 4000.into(), reason: "because".into() };
                    self.socket.close(Some(frame)).await.ok()?;
                }
                Some(())
            }
            "busy" if self.asked == 1 => self.busy(id).await,
            _ => {
                self.say(&ok).await?;
                if manner == "odd" {
                    self.oddities().await?;
                }
                let ev = json!({ "sub": name, "cursor": "c1", "prev": "c0", "replay": false, "event": event });
                self.say(&json!({ "ev": ev }).to_string()).await
            }
        }
    }

    /// What is of a later protocol, or meant for nobody.
    async fn oddities(&mut self) -> Option<()> {
        for frame in [
            json!({ "weather": { "rain": true } }),
            json!({ "id": 99_999, "ok": {} }),
            json!({ "error": { "code": "odd", "detail": "nobody asked" } }),
            json!({ "ended": { "sub": "nobody", "reason": "taken" } }),
            json!({ "cursor": { "sub": "nobody", "cursor": "c9" } }),
        ] {
            self.say(&frame.to_string()).await?;
        }
        Some(())
    }

    async fn published(&mut self, manner: &str, frame: &Value, id: &str) -> Option<()> {
        self.asked += 1;
        if manner == "busy" && self.asked == 1 {
            return self.busy(frame).await;
        }
        let receipt = json!({ "id": id, "cursor": "c1", "confirm": "stored", "requested": "stored" });
        self.say(&json!({ "id": frame, "ok": receipt }).to_string()).await
    }

    async fn busy(&mut self, id: &Value) -> Option<()> {
        let error = json!({ "code": "too-many", "detail": "not now", "retry_after": 1 });
        self.say(&json!({ "id": id, "error": error }).to_string()).await
    }
}
