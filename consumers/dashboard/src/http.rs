//! The dashboard's paths. The page is for everyone, since nothing is in it; every figure is behind the guard.

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use bus::Bus;
use events::Name;
use principal::Verifier;

use crate::{
    board::Board,
    guard::guard,
    page,
    problem::{self, Problem},
    stream::Streams,
};

#[derive(Clone)]
pub(crate) struct Sources {
    pub bus: Bus,
    pub board: Board,
    pub streams: Streams,
}

pub(crate) fn router(sources: Sources, verifier: Verifier) -> Router {
    Router::new()
        .route("/dashboard/snapshot", get(snapshot))
        .route("/dashboard/stream", get(stream))
        .route("/dashboard/events/{queue}/{partition}/{position}", get(event))
        .with_state(sources)
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(from_fn_with_state(verifier, guard))
        .layer(from_fn(never_kept))
        .merge(page::router().method_not_allowed_fallback(async || Problem::method_not_allowed()))
        .fallback(async || Problem::not_found("there is nothing here"))
        .layer(from_fn(problem::name))
}

async fn snapshot(State(sources): State<Sources>) -> Response {
    let (_, text) = sources.board.snapshot();
    ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response()
}

async fn stream(State(sources): State<Sources>, headers: HeaderMap) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let mut response = sources.streams.open(last)?.into_response();
    // A proxy that gathers the answer before it passes it on would hold it for ever.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One event, whole.
async fn event(
    State(sources): State<Sources>,
    Path((queue, partition, position)): Path<(String, u32, u64)>,
) -> Result<Response, Problem> {
    let gone = || Problem::not_found("the event is no longer in the log");
    let queue = Name::new(&queue).map_err(|_| gone())?;
    let page = sources.bus.read(&queue, partition, position, 1).await.map_err(|error| {
        tracing::warn!(%queue, %error, "an event can't be shown");
        Problem::busy("the bus is away", 1)
    })?;
    let logged = page.events.first().filter(|logged| logged.position == position).ok_or_else(gone)?;
    let text = serde_json::to_string(logged.envelope.as_ref()).map_err(|error| Problem::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn never_kept(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
