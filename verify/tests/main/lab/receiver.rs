//! Somebody else's server, to which events are posted: it verifies each request, writes down what it got and did, and
//! answers as it is told. It knows no event that it had before: what comes twice, it does twice.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use bus::Clock as _;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use verify::{
    History,
    history::{Did, Op, Place, Seen, What},
};
use webhooks::{Late, Webhooks};

use super::{Key, Stepping};

/// A request that was signed longer ago is refused, in seconds.
const TOLERANCE_S: i64 = 300;
/// How long it takes to acknowledge what it has accepted.
const LATE: Duration = Duration::from_millis(20);

/// What it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    Done,
    Fails(u16),
    /// It fails, and is to come again after so many seconds.
    Postpones(u16, u64),
    /// It acknowledges later.
    Accepts,
}

type Script = Arc<dyn Fn(usize) -> Reply + Send + Sync>;

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shop: Arc<Shop>,
    _stop: DropGuard,
}

struct Shop {
    history: History,
    clock: Stepping,
    /// Where it acknowledges later.
    webhooks: Webhooks,
    /// What the endpoint's group is called, and its keys, the first one first.
    endpoint: Mutex<(String, Vec<Key>)>,
    script: Mutex<Script>,
    requests: AtomicUsize,
    /// How often each event came.
    came: Mutex<HashMap<String, u32>>,
}

impl Receiver {
    pub(crate) async fn start(history: History, clock: Stepping, webhooks: Webhooks) -> Self {
        let shop = Arc::new(Shop {
            history,
            clock,
            webhooks,
            endpoint: Mutex::default(),
            script: Mutex::new(Arc::new(|_| Reply::Done)),
            requests: AtomicUsize::default(),
            came: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(take).with_state(shop.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(stopped.run_until_cancelled_owned(async move { axum::serve(listener, router).await }));
        Self { address, shop, _stop: stop.drop_guard() }
    }

    /// Answers so from now on; each request by its number, from 0.
    pub(crate) fn answers(&self, script: impl Fn(usize) -> Reply + Send + Sync + 'static) {
        *self.shop.script.lock() = Arc::new(script);
    }

    /// It was registered as an endpoint.
    pub(super) fn is(&self, group: String, key: Key) {
        *self.shop.endpoint.lock() = (group, vec![key]);
    }

    /// Its endpoint has another key from now on.
    pub(super) fn learns(&self, key: Key) {
        self.shop.endpoint.lock().1.push(key);
    }
}

async fn take(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (op, id, timestamp) = (shop.history.op(), header("webhook-id"), header("webhook-timestamp"));
    let event = event(&body).filter(|event| event.id == id);
    let has_signed =
        |key: &Key| event.is_some() && key.has_signed(header("webhook-signature"), (id, timestamp, &body[..]));
    let (endpoint, keys): (_, Vec<u32>) = {
        let endpoint = shop.endpoint.lock();
        let keys = (0..).zip(&endpoint.1).filter(|(_, key)| has_signed(key));
        (endpoint.0.clone(), keys.map(|(number, _)| number).collect())
    };
    let now = shop.clock.now();
    let age_s = now.unix_timestamp() - timestamp.parse::<i64>().unwrap_or_default();
    let is_good = !keys.is_empty() && age_s.abs() <= TOLERANCE_S;
    let posted = What::Posted {
        op,
        endpoint: endpoint.clone(),
        id: id.to_owned(),
        keys,
        age_s,
        clock: shop.history.moment(now),
    };
    let Some(event) = event.filter(|_| is_good) else {
        shop.history.write(posted);
        return shop.reply(op, 400, None);
    };
    let attempt = {
        let mut came = shop.came.lock();
        let came = came.entry(event.id.clone()).or_default();
        *came += 1;
        *came
    };
    let handled = move |did: Did| What::Handled {
        group: endpoint.clone(),
        member: "receiver".to_owned(),
        event: event.clone(),
        attempt,
        did,
    };
    shop.history.write_all([posted, handled(Did::Started)]);
    let script = shop.script.lock().clone();
    match script(shop.requests.fetch_add(1, Relaxed)) {
        Reply::Done => {
            shop.history.write(handled(Did::Done));
            shop.reply(op, 204, None)
        }
        Reply::Fails(status) => {
            shop.history.write(handled(Did::Failed));
            shop.reply(op, status, None)
        }
        Reply::Postpones(status, seconds) => {
            shop.history.write(handled(Did::Failed));
            shop.reply(op, status, Some(seconds))
        }
        Reply::Accepts => {
            let token = header("turnpike-ack-url").rsplit('/').next().unwrap_or_default().to_owned();
            let later = shop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LATE).await;
                later.history.write(handled(Did::Done));
                later.webhooks.acknowledge(&token, Late::Done).await.unwrap();
            });
            shop.reply(op, 202, None)
        }
    }
}

impl Shop {
    fn reply(&self, op: Op, status: u16, retry_after_s: Option<u64>) -> Response {
        let clock = self.history.moment(self.clock.now());
        self.history.write(What::Replied { op, status, retry_after_s, clock });
        let mut response = StatusCode::from_u16(status).unwrap().into_response();
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        response
    }
}

/// The event that a body is, by its attributes (CloudEvents 1.0, structured). Queues of these cases have one partition.
fn event(body: &[u8]) -> Option<Seen> {
    let event: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    let key = text("partitionkey").or_else(|| text("subject")).or_else(|| text("id"))?;
    let place = Place { queue: text("queue")?, partition: 0, position: text("sequence")?.parse().ok()? };
    Some(Seen { id: text("id")?, event: text("event")?, key, place })
}
