//! A broker on a bus of its own, and clients that the gateway would have let in.

use std::{net::SocketAddr, time::Duration};

use broker::{Config, JobSource, Settings};
use bus::{Bus, Logged};
use bytes::Bytes;
use events::Name;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use lifecycle::{Role as _, Shutdown};
use principal::{Issuer, Keys, METADATA, Principal, RootSecret, Signer};
use serde_json::Value;
use tempfile::TempDir;

/// Generous: a test waits for what must come, and only a fault lets it wait so long.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Site {
    pub bus: Bus,
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    signer: Signer,
    root: RootSecret,
    _folder: TempDir,
}

impl Site {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        Self::of(RootSecret::generate(), settings).await
    }

    /// Another broker of the same system, on a bus of its own.
    pub async fn sibling(&self) -> Self {
        Self::of(self.root.clone(), Settings::default()).await
    }

    async fn of(root: RootSecret, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        Self::begin(root, bus, folder, settings, Vec::new()).await
    }

    /// One on each kind of bus; Redis runs as long as its handle is held.
    pub async fn every() -> [(Self, Option<testkit::Redis>); 2] {
        let server = testkit::redis().await;
        let bus = bus::redis::open(&server.url()).await.unwrap();
        let on_redis = Self::on(bus, tempfile::tempdir().unwrap(), Settings::default()).await;
        [(Self::start().await, None), (on_redis, Some(server))]
    }

    /// One that makes jobs of events.
    pub async fn making_jobs(sources: Vec<JobSource>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        Self::begin(RootSecret::generate(), bus, folder, Settings::default(), sources).await
    }

    /// On another bus; the broker's database is in the folder.
    pub async fn on(bus: Bus, folder: tempfile::TempDir, settings: Settings) -> Self {
        Self::begin(RootSecret::generate(), bus, folder, settings, Vec::new()).await
    }

    async fn begin(
        root: RootSecret,
        bus: Bus,
        folder: tempfile::TempDir,
        settings: Settings,
        sources: Vec<JobSource>,
    ) -> Self {
        let signer = Signer::new("gateway", &root);
        let issuers = vec![Issuer { name: "gateway".to_owned(), keys: Keys::Inline(signer.jwks()) }];
        let database = Some(database::Url::sqlite(folder.path().join("broker.db")));
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = Config { listen, bus: bus.clone(), issuers, root: Some(root.clone()), database, settings };
        let broker = broker::build(config).await.unwrap().making_jobs(sources).unwrap();
        let (address, shutdown) = (broker.address().unwrap(), Shutdown::new());
        tokio::spawn(Box::new(broker).run(shutdown.clone()));
        Self { bus, address, shutdown, signer, root, _folder: folder }
    }

    /// What the gateway would sign for a caller.
    pub fn token(&self, subject: &str, scopes: &[&str]) -> String {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        self.signer.sign(&Principal { subject: subject.to_owned(), scopes, ..Principal::default() })
    }

    pub fn anonymous(&self) -> Client {
        let http = Http::builder(TokioExecutor::new()).build_http();
        Client { http, base: format!("http://{}", self.address), headers: HeaderMap::new() }
    }

    pub fn client(&self, subject: &str, scopes: &[&str]) -> Client {
        self.anonymous().with(METADATA, &self.token(subject, scopes))
    }

    /// Somebody who may publish everything, and read it.
    pub fn alice(&self) -> Client {
        self.client("alice", &["events:write:*/*", "events:read:*/*"])
    }

    /// Somebody who may do what an operator may.
    pub fn operator(&self) -> Client {
        self.client("operators/1", &["bus:admin"])
    }

    /// What a queue's first partition holds.
    pub async fn log(&self, queue: &str) -> Vec<Logged> {
        self.bus.read(&Name::new(queue).unwrap(), 0, 1, 1000).await.unwrap().events
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.escalate();
    }
}

/// Sends requests with the same extra header fields each time.
#[derive(Clone)]
pub struct Client {
    http: Http<HttpConnector, Full<Bytes>>,
    base: String,
    headers: HeaderMap,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Client {
    /// Of nobody in particular.
    pub fn to(address: SocketAddr) -> Self {
        let http = Http::builder(TokioExecutor::new()).build_http();
        Self { http, base: format!("http://{address}"), headers: HeaderMap::new() }
    }

    #[must_use]
    pub fn with(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.insert(name, value.parse().unwrap());
        client
    }

    /// The same on connections that go this way.
    #[must_use]
    pub fn through(&self, address: SocketAddr) -> Self {
        let http = Http::builder(TokioExecutor::new()).build_http();
        Self { http, base: format!("http://{address}"), headers: self.headers.clone() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    /// Posts a text, as JSON unless the client says otherwise.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, body).await
    }

    pub async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let body = body.into();
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        *request.headers_mut().unwrap() = self.headers.clone();
        if !body.is_empty() && !self.headers.contains_key("content-type") {
            request = request.header("content-type", "application/json");
        }
        let exchange = async {
            let answer = self.http.request(request.body(Full::new(body)).unwrap()).await.unwrap();
            let (parts, body) = answer.into_parts();
            Answer { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
        };
        tokio::time::timeout(Duration::from_secs(90), exchange).await.unwrap()
    }
}

impl Answer {
    /// The JSON body of an answer of this status.
    #[track_caller]
    pub fn json(&self, status: u16) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{:?} {text}", self.headers);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }

    /// The detail of a problem document of this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        let problem = self.json(status);
        assert_eq!(self.headers["content-type"], "application/problem+json", "{problem}");
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}
