//! A gateway on a free port, an upstream that answers as a test says, and a client that shows everything.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use gateway::{ConfigSource, Gauges, Options, Properties};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use lifecycle::{Role as _, Shutdown};
use principal::RootSecret;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The listener of every test's configuration.
pub const LISTENER: &str = "listeners: [{address: '127.0.0.1:0'}]\naccess_log: false\n";

pub struct Running {
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    pub ops: axum::Router,
    pub readiness: lifecycle::Readiness,
    role: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Starts a gateway with these sections beside the listener.
    pub async fn start(sections: &str) -> Self {
        let text = format!("{LISTENER}{sections}");
        Self::from(ConfigSource::Text { text, properties: Properties::new() }, None).await
    }

    /// The same with a bus in its process.
    pub async fn beside(bus: bus::Bus, sections: &str) -> Self {
        let text = format!("{LISTENER}{sections}");
        Self::from(ConfigSource::Text { text, properties: Properties::new() }, Some(bus)).await
    }

    /// Starts a gateway with this configuration, listeners and all.
    pub async fn configured(text: &str) -> Self {
        Self::from(ConfigSource::Text { text: text.to_owned(), properties: Properties::new() }, None).await
    }

    /// The same from a file, which may change.
    pub async fn watching(path: &Path) -> Self {
        Self::from(ConfigSource::File { path: path.to_owned(), properties: Properties::new() }, None).await
    }

    /// The same where memory and delays are what these gauges tell.
    pub async fn gauged(sections: &str, gauges: Gauges) -> Self {
        let text = format!("{LISTENER}{sections}");
        Self::with(ConfigSource::Text { text, properties: Properties::new() }, None, gauges).await
    }

    async fn from(source: ConfigSource, bus: Option<bus::Bus>) -> Self {
        Self::with(source, bus, Gauges::default()).await
    }

    async fn with(source: ConfigSource, bus: Option<bus::Bus>, gauges: Gauges) -> Self {
        let (descriptors, root) = (BTreeMap::new(), RootSecret::generate());
        let options = Options { source, descriptors, root, bus, cores: Some(2) };
        let gateway = gateway::build_with(options, gauges).await.unwrap();
        let (address, ops, readiness) = (gateway.address().unwrap(), gateway.ops(), gateway.readiness());
        let shutdown = Shutdown::new();
        let role = tokio::spawn(Box::new(gateway).run(shutdown.clone()));
        Self { address, shutdown, ops, readiness, role }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut connection = Connection::open(self.address).await;
        connection.send(method, path, headers, body).await
    }

    /// Sends bytes as they are and reads until the gateway closes.
    pub async fn raw(&self, request: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is a close too.
        _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A page of the ops listener.
    pub async fn ops(&self, path: &str) -> Value {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = tower::ServiceExt::oneshot(self.ops.clone(), request).await.unwrap();
        assert_eq!(response.status(), 200);
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    /// Drains it and waits for its end.
    pub async fn stop(self) {
        self.shutdown.begin(Duration::from_secs(5));
        self.role.await.unwrap().unwrap();
    }
}

/// One HTTP/1.1 connection.
pub struct Connection(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "gateway.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.0.send_request(request.body(Full::from(body.to_owned())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// A header's values in order, joined.
    pub fn header(&self, name: &str) -> String {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(", ")
    }

    /// The problem document, which must be one that carries all it should.
    pub fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        assert_eq!(problem["trace_id"].as_str().map(str::len), Some(32));
        assert!(problem["type"].as_str().unwrap().starts_with("https://turnpike.dev/problems/"));
        problem
    }
}

/// An HTTP/1.1 upstream that answers each request by `answer`.
pub async fn upstream<F, Fut>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            let service = service_fn(move |request| {
                let answer = answer(request);
                async { Ok::<_, Infallible>(answer.await) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

/// An upstream that tells what it was asked: its body is `{method, path, headers, body}`.
pub async fn echo() -> SocketAddr {
    upstream(|request| async {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let headers: serde_json::Map<_, _> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
            .collect();
        let told = serde_json::json!({
            "method": parts.method.as_str(),
            "path": parts.uri.to_string(),
            "headers": headers,
            "body": String::from_utf8_lossy(&body),
        });
        Response::new(Full::from(told.to_string()))
    })
    .await
}

/// A configuration that passes everything on to an upstream.
pub fn passing_on(upstream: SocketAddr) -> String {
    format!(
        "upstreams:\n  echo: {{endpoints: ['{upstream}']}}\n\
         routes:\n  - {{match: {{path: '/{{rest=**}}'}}, proxy: echo}}\n"
    )
}
