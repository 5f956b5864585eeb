//! Somebody else's server, which answers as the test says and remembers what it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, response::IntoResponse as _};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Recorded {
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn id(&self) -> String {
        self.header("webhook-id").to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// What it answers.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    after: Duration,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn body(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }

    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

type Script = Arc<dyn Fn(usize, &Recorded) -> Reply + Send + Sync>;

#[derive(Clone)]
struct Shop {
    requests: Arc<Mutex<Vec<Recorded>>>,
    /// Requests at work, and the most there ever were.
    at_once: Arc<Mutex<(usize, usize)>>,
    script: Arc<Mutex<Script>>,
}

pub struct Receiver {
    pub address: SocketAddr,
    shop: Shop,
    _stop: DropGuard,
}

impl Receiver {
    /// Answers by a script, which is told how many came before.
    pub async fn start(script: impl Fn(usize, &Recorded) -> Reply + Send + Sync + 'static) -> Self {
        let shop =
            Shop { requests: Arc::default(), at_once: Arc::default(), script: Arc::new(Mutex::new(Arc::new(script))) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(shop.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(listener, router).await } => served.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
        Self { address, shop, _stop: stop.drop_guard() }
    }

    pub async fn that_takes_all() -> Self {
        Self::start(|_, _| Reply::status(204)).await
    }

    /// Answers otherwise from now on.
    pub fn changes(&self, script: impl Fn(usize, &Recorded) -> Reply + Send + Sync + 'static) {
        *self.shop.script.lock().unwrap() = Arc::new(script);
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.shop.requests.lock().unwrap().clone()
    }

    /// The ids of events in the order they came.
    pub fn ids(&self) -> Vec<String> {
        self.requests().iter().map(Recorded::id).collect()
    }

    pub fn most_at_once(&self) -> usize {
        self.shop.at_once.lock().unwrap().1
    }
}

async fn answer(State(shop): State<Shop>, uri: http::Uri, headers: HeaderMap, body: Bytes) -> axum::response::Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    let recorded = Recorded { path: uri.path().to_owned(), headers, body };
    let script = shop.script.lock().unwrap().clone();
    let before = {
        let mut requests = shop.requests.lock().unwrap();
        requests.push(recorded.clone());
        let mut at_once = shop.at_once.lock().unwrap();
        at_once.0 += 1;
        at_once.1 = at_once.1.max(at_once.0);
        requests.len() - 1
    };
    let reply = script(before, &recorded);
    tokio::time::sleep(reply.after).await;
    shop.at_once.lock().unwrap().0 -= 1;
    let mut response = (StatusCode::from_u16(reply.status).unwrap(), reply.body).into_response();
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
