//! What every request passes on its way to a handler, outermost first.

use std::panic::AssertUnwindSafe;

use axum::{
    Router,
    extract::{MatchedPath, Request},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use tracing::{Instrument as _, Span, field::Empty};

use crate::problem::{self, Kind, Problem};

/// Puts the layers around the routes.
pub(crate) fn stack(routes: Router) -> Router {
    routes
        // A panic must cost its own request only, and be an answer.
        .layer(from_fn(guard))
        // A problem names its request, whoever made it.
        .layer(from_fn(problem::name))
        // Around everything, so that whatever is logged is within the caller's trace.
        .layer(from_fn(trace))
}

async fn trace(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let span = tracing::info_span!(
        "request",
        otel.name = %format_args!("{} {route}", request.method()),
        otel.kind = "server",
        otel.status_code = Empty,
        turnpike.role = crate::NAME,
        http.request.method = %request.method(),
        http.route = route,
        url.path = request.uri().path(),
        http.response.status_code = Empty,
        error.type = Empty,
    );
    if let Some(parent) = telemetry::extract(request.headers()) {
        telemetry::set_parent(&span, &parent);
    }
    let answered = async {
        let response = next.run(request).await;
        let status = response.status();
        let span = Span::current();
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", status.as_str());
        }
        response
    };
    answered.instrument(span).await
}

async fn guard(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!("a handler panicked");
            Problem::new(Kind::Internal, "see the log").into_response()
        }
    }
}
