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
        url.path = &*telemetry::path(request.uri().path()),
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

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::post};
    use http::StatusCode;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn what_a_path_lets_its_holder_do_is_not_told() {
        let routes = Router::new()
            .route("/webhooks/ack/{token}", post(async || StatusCode::NO_CONTENT))
            .route("/deliveries/{token}/{verb}", post(async || StatusCode::INTERNAL_SERVER_ERROR));
        let stack = stack(routes);
        let told = testkit::told();
        for path in
            ["/webhooks/ack/AZKq3vUfcA", "/deliveries/billing:0.0.2a.00c0ffee00c0ffee/ack", "/webhooks/ack/AZKq/x"]
        {
            stack.clone().oneshot(Request::post(path).body(Body::empty()).unwrap()).await.unwrap();
        }
        let text = told.text();
        assert!(
            text.contains("url.path=/webhooks/ack/***\n") && text.contains("url.path=/deliveries/***/ack\n"),
            "{text}"
        );
        assert!(!text.contains("AZKq") && !text.contains("c0ffee"), "{text}");
    }
}
