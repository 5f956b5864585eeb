//! The ops listener: `/livez`, `/readyz`, `/metrics` of every role, what a role adds, and at `/` a list of it all.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::{Readiness, Shutdown, other_sites};

/// An ops listener, bound but not yet serving.
pub struct Ops {
    listener: TcpListener,
    address: SocketAddr,
    board: OpsBoard,
}

/// What is to be had, `GET /path` or `POST /path`, with a line about each.
pub type OpsIndex = Vec<(String, &'static str)>;

/// What the ops listener shows; roles come and go on it while it serves. Clones speak of the same listener.
#[derive(Clone, Default)]
pub struct OpsBoard(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    readiness: BTreeMap<String, Readiness>,
    routers: BTreeMap<String, Router>,
    indices: BTreeMap<String, OpsIndex>,
    /// All of `routers`; made anew when one changes.
    merged: Router,
}

impl Ops {
    /// Binds the listener. Port 0 takes a free one.
    ///
    /// # Errors
    /// If the address is taken.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("the ops listener can't have {address}: is another process on it?"))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, board: OpsBoard::default() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn board(&self) -> OpsBoard {
        self.board.clone()
    }

    /// Serves until `shutdown` drops; a draining process still tells that it isn't ready.
    ///
    /// # Errors
    /// If the listener breaks.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let dropping = shutdown.dropping().clone().cancelled_owned();
        let router = Router::new()
            .route("/", get(index))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .fallback(of_roles)
            .layer(middleware::from_fn(other_sites::refuse))
            .with_state((self.board, shutdown));
        let serve = axum::serve(self.listener, router);
        // An open scrape doesn't hold up the end of the process.
        tokio::select! {
            served = async { serve.await } => served.context("ops listener"),
            () = dropping => Ok(()),
        }
    }
}

impl OpsBoard {
    /// Counts a role's readiness into `/readyz`, in place of what was known under this name.
    pub fn watch(&self, name: impl Into<String>, readiness: Readiness) {
        self.0.lock().readiness.insert(name.into(), readiness);
    }

    /// Adds a role's routes, in place of what the role had before.
    pub fn mount(&self, role: impl Into<String>, router: Router) {
        let mut shown = self.0.lock();
        shown.routers.insert(role.into(), router);
        shown.merged = shown.routers.values().cloned().fold(Router::new(), Router::merge);
    }

    /// Lists a role's routes in the index, in place of what was listed for the role before.
    pub fn list(&self, role: impl Into<String>, index: OpsIndex) {
        self.0.lock().indices.insert(role.into(), index);
    }
}

/// What there is, by role.
async fn index(State((board, _)): State<(OpsBoard, Shutdown)>) -> impl IntoResponse {
    let own = [
        ("GET /livez", "200 while the process runs"),
        ("GET /readyz", "200 if it should get traffic; 503 and the reasons if not"),
        ("GET /metrics", "metrics, for Prometheus"),
    ];
    let own = own.map(|(path, about)| (path.to_owned(), json!(about)));
    let mut index = serde_json::Map::from_iter([("process".to_owned(), Value::Object(own.into_iter().collect()))]);
    for (role, paths) in board.0.lock().indices.iter().filter(|(_, paths)| !paths.is_empty()) {
        let paths = paths.iter().map(|(path, about)| (path.clone(), json!(about)));
        index.insert(role.clone(), Value::Object(paths.collect()));
    }
    // Read by people: a line each.
    ([("content-type", "application/json")], format!("{:#}\n", Value::Object(index)))
}

async fn of_roles(State((board, _)): State<(OpsBoard, Shutdown)>, request: Request) -> Response {
    let router = board.0.lock().merged.clone();
    router.oneshot(request).await.into_response()
}

async fn readyz(State((board, shutdown)): State<(OpsBoard, Shutdown)>) -> impl IntoResponse {
    let mut waiting: BTreeMap<String, BTreeMap<&'static str, String>> = board
        .0
        .lock()
        .readiness
        .iter()
        .filter(|(_, readiness)| !readiness.is_ready())
        .map(|(name, readiness)| (name.clone(), readiness.reasons()))
        .collect();
    if shutdown.leaving().is_cancelled() {
        waiting.insert("process".to_owned(), BTreeMap::from([("shutdown", "shutting down".to_owned())]));
    }
    let status = if waiting.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": waiting.is_empty(), "waiting": waiting })))
}

async fn metrics() -> impl IntoResponse {
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], telemetry::render())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper_util::rt::TokioIo;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = hyper::Request::get(path).header("host", "ops").body(String::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_follows_the_roles_and_says_what_is_missing() {
        let ops = Ops::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, board, shutdown) = (ops.address(), ops.board(), Shutdown::new());
        let serving = tokio::spawn(ops.run(shutdown.clone()));

        let readiness = Readiness::default();
        board.watch("product", readiness.clone());
        let (status, body) = get(address, "/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains("product") && body.contains("starting"), "{body}");

        readiness.ready("role");
        assert_eq!(get(address, "/readyz").await.0, 200);
        assert_eq!(get(address, "/livez").await.0, 200);

        board.mount("product", Router::new().route("/stock", axum::routing::get(|| async { "42" })));
        board.list("product", vec![("GET /stock".to_owned(), "what is left")]);
        assert_eq!(get(address, "/stock").await, (200, "42".to_owned()));
        let (status, body) = get(address, "/").await;
        let index: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &index["product"]["GET /stock"]), (200, &json!("what is left")));
        assert!(index["process"]["GET /readyz"].is_string(), "{index}");
        board.mount("product", Router::new());
        assert_eq!(get(address, "/stock").await.0, 404);

        shutdown.escalate();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_taken_address_is_a_clear_error() {
        let first = Ops::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = Ops::bind(first.address()).await.err().unwrap();
        assert!(format!("{error:#}").contains("is another process on it?"), "{error:#}");
    }
}
