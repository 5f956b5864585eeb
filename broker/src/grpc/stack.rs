//! What every call of the bus passes on its way, beside what every request does: it is counted, and told who calls.

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use tonic::{Code, Status};

use crate::{access::Caller, metrics, shared::Shared};

/// The calls that there are; the names are labels and must not be what a client makes up.
const METHODS: [&str; 19] = [
    "Publish",
    "PublishStream",
    "Claim",
    "Settle",
    "Consume",
    "Subscribe",
    "GetEvent",
    "GetStatus",
    "Cancel",
    "ListQueues",
    "PutQueue",
    "ListGroups",
    "GetGroup",
    "DeclareGroup",
    "ListDeadLetters",
    "Redrive",
    "Discard",
    "Seek",
    "ListConnections",
];

/// Sees the code of every answer, also of those that the layers below give.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let called = request.uri().path().rsplit('/').next().unwrap_or_default();
    let method = METHODS.into_iter().find(|method| *method == called).unwrap_or("unknown");
    let response = next.run(request).await;
    // An error is in the headers ("trailers only"); without one the call succeeded, or its stream has begun.
    let code = response.headers().get(Status::GRPC_STATUS).map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    metrics::called(method, telemetry::code_name(code.into()));
    response
}

/// Puts the caller beside the request.
pub(super) async fn authenticate(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    match Caller::of(request.headers(), &shared).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => Status::from(problem).into_http::<Body>(),
    }
}
