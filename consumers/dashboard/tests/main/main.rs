//! The dashboard between a real bus, real databases and a real browser.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod access;
mod browser;
mod exact;
mod gateways;
mod redis;
mod stream;
mod webhooks;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bus::{Bus, Clock, sqlite::Sqlite};
use bytes::Bytes;
use dashboard::Config;
use database::Url;
use events::{Envelope, Name};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use lifecycle::{Readiness, Role as _, Shutdown};
use principal::{Issuer, Keys, METADATA, Principal, RootSecret, Signer};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Postgres, Redis, eventually};
use time::OffsetDateTime;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(30);

/// A bus, a database for the dashboard, and a gateway's signature.
struct Site {
    folder: TempDir,
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    bus: Bus,
    signer: Signer,
}

impl Site {
    async fn new(postgres: Option<Postgres>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        Self { folder, postgres, redis: None, bus, signer: Signer::new("gateway", &RootSecret::generate()) }
    }

    async fn sqlite() -> Self {
        Self::new(None).await
    }

    /// On a bus whose clock is so many seconds behind.
    async fn in_the_past(seconds: i64) -> (Self, Arc<Past>) {
        let mut site = Self::sqlite().await;
        let clock = Arc::new(Past(AtomicI64::new(seconds)));
        let options = bus::sqlite::Options { clock: clock.clone(), ..Default::default() };
        site.bus = Bus::new(Sqlite::open(&site.folder.path().join("past.db"), options).await.unwrap());
        (site, clock)
    }

    async fn on_redis() -> Self {
        let server = testkit::redis().await;
        let bus = bus::redis::open(&server.url()).await.unwrap();
        Self { redis: Some(server), bus, ..Self::sqlite().await }
    }

    async fn every() -> [Self; 3] {
        [Self::sqlite().await, Self::new(Some(testkit::postgres().await)).await, Self::on_redis().await]
    }

    fn config(&self) -> Config {
        let database = match &self.postgres {
            Some(server) => Url(server.url()),
            None => Url::sqlite(self.folder.path().join("dashboard.db")),
        };
        Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            bus: self.bus.clone(),
            database,
            issuers: vec![Issuer { name: "gateway".to_owned(), keys: Keys::Inline(self.signer.jwks()) }],
            gateways: Vec::new(),
        }
    }

    async fn start(&self) -> Running {
        self.start_with(self.config()).await
    }

    async fn start_with(&self, config: Config) -> Running {
        let dashboard = dashboard::build(config).await.unwrap();
        let (address, readiness, shutdown) = (dashboard.address().unwrap(), dashboard.readiness(), Shutdown::new());
        let work = tokio::spawn(Box::new(dashboard).run(shutdown.clone()));
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Running { address, readiness, shutdown, work, client, signer: self.signer.clone() }
    }

    async fn publish(&self, events: Vec<Envelope>) {
        for outcome in self.bus.publish(events).await.unwrap() {
            outcome.unwrap();
        }
    }
}

/// A clock that is behind, by so many seconds.
struct Past(AtomicI64);

impl Past {
    fn behind(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for Past {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() - time::Duration::seconds(self.0.load(Ordering::SeqCst))
    }
}

/// A dashboard at work.
struct Running {
    address: SocketAddr,
    readiness: Readiness,
    shutdown: Shutdown,
    work: JoinHandle<anyhow::Result<()>>,
    client: Client<HttpConnector, Empty<Bytes>>,
    signer: Signer,
}

impl Running {
    /// What the gateway says of an operator; good for a minute.
    fn token(&self) -> String {
        self.token_of(&["dashboard:read"])
    }

    fn token_of(&self, scopes: &[&str]) -> String {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        self.signer.sign(&Principal { subject: "operators/1".to_owned(), scopes, ..Principal::default() })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)]) -> http::Response<hyper::body::Incoming> {
        let request =
            headers.iter().fold(Request::get(self.url(path)), |request, (name, value)| request.header(*name, *value));
        self.client.request(request.body(Empty::new()).unwrap()).await.unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, http::HeaderMap, String) {
        let (parts, body) = self.send(path, headers).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn snapshot(&self) -> Value {
        let (status, _, body) = self.get("/dashboard/snapshot", &[(METADATA, &self.token())]).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until an event of queue DB is counted that often, and no more.
    async fn counted(&self, event: &str, count: u64) -> Value {
        let snapshot = eventually(&format!("{count} of {event} are counted"), SOON, async || {
            let snapshot = self.snapshot().await;
            (counts(&snapshot, event) >= count).then_some(snapshot)
        })
        .await;
        assert_eq!(counts(&snapshot, event), count);
        snapshot
    }

    async fn drain(self) {
        self.shutdown.begin(SOON);
        self.work.await.unwrap().unwrap();
    }

    async fn kill(self) {
        self.work.abort();
        let _ = self.work.await;
    }
}

fn counts(snapshot: &Value, event: &str) -> u64 {
    snapshot["queues"]["DB"]["events"][event]["count"].as_u64().unwrap_or(0)
}

fn event(queue: &str, event: &str, subject: &str) -> Envelope {
    Envelope::new("/services/customer", Name::new(queue).unwrap(), Name::new(event).unwrap())
        .subject(subject)
        .data(json!({ "id": subject }))
}

fn created(numbers: std::ops::Range<usize>) -> Vec<Envelope> {
    numbers.map(|number| event("DB", "CREATE", &format!("customers/{number}"))).collect()
}
