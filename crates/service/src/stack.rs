//! What every call passes on its way to an RPC, in this order. Health and reflection stand beside it: they must answer
//! when the service is full, to callers that have no principal, for as long as they watch.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
};
use futures_util::FutureExt as _;
use principal::{TokenError, Verifier};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes};
use tower::ServiceBuilder;
use tracing::{Instrument as _, Span, field::Empty};

use crate::{caller::Deadline, descriptor::Rpc, metrics::Call};

/// The most calls at once, over all connections.
const MAX_CALLS: usize = 1024;
/// How long a call may take whose caller doesn't say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a call may take whatever its caller says.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Puts the layers around the RPCs of a role, outermost first. `dropping` ends what is still open.
pub(crate) fn stack(role: &'static str, rpcs: Routes, verifier: Verifier, dropping: CancellationToken) -> Routes {
    let layers = ServiceBuilder::new()
        // First, so that everything below is logged within the caller's trace.
        .layer(from_fn_with_state(role, trace))
        // Sees the code of every answer, also of those that the layers below give.
        .layer(from_fn(measure))
        // A panic must cost its own call only, and be an answer; below it nothing else needs to care.
        .layer(from_fn(guard))
        // Before any work is done for the call: refusing must be cheap to help.
        .layer(from_fn_with_state(Arc::new(Semaphore::new(MAX_CALLS)), limit))
        // Around the verification too, which may have to fetch keys.
        .layer(from_fn_with_state(dropping, deadline))
        // Last: the RPC relies on the principal it finds.
        .layer(from_fn_with_state(verifier, authenticate));
    Routes::from(rpcs.into_axum_router().layer(layers))
}

/// As OpenTelemetry's conventions for gRPC servers have it.
async fn trace(State(role): State<&'static str>, mut request: Request, next: Next) -> Response {
    let rpc = Rpc::of(request.uri().path());
    request.extensions_mut().insert(rpc);
    let span = tracing::info_span!(
        "rpc",
        otel.name = %format_args!("{}/{}", rpc.service, rpc.method),
        otel.kind = "server",
        otel.status_code = Empty,
        turnpike.role = role,
        rpc.system.name = "grpc",
        rpc.method = %format_args!("{}/{}", rpc.service, rpc.method),
        rpc.response.status_code = Empty,
        error.type = Empty,
    );
    if let Some(parent) = telemetry::extract(request.headers()) {
        telemetry::set_parent(&span, &parent);
    }
    next.run(request).instrument(span).await
}

async fn measure(request: Request, next: Next) -> Response {
    let call = Call::begin(Rpc::of(request.uri().path()));
    let response = next.run(request).await;
    // Ours are unary: an error is in the headers ("trailers only"), and without one the call succeeded.
    let code = response.headers().get(Status::GRPC_STATUS).map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    let span = Span::current();
    span.record("rpc.response.status_code", telemetry::code_name(code.into()));
    if is_fault(code) {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", telemetry::code_name(code.into()));
    }
    call.answered(code);
    response
}

/// Whether a code tells of a fault on this side; the others tell the caller something about its call.
fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

async fn guard(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!("an RPC panicked");
            refuse(Status::internal("internal error"))
        }
    }
}

async fn limit(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match places.try_acquire() {
        Ok(_place) => next.run(request).await,
        // UNAVAILABLE and not RESOURCE_EXHAUSTED: nothing was done, another instance may have room.
        Err(_) => refuse(Status::unavailable("too many calls at once; try again")),
    }
}

async fn deadline(State(dropping): State<CancellationToken>, mut request: Request, next: Next) -> Response {
    let asked = request.headers().get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?));
    let deadline = Instant::now() + asked.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
    request.extensions_mut().insert(Deadline(deadline));
    tokio::select! {
        response = next.run(request) => response,
        () = tokio::time::sleep_until(deadline.into()) => refuse(Status::deadline_exceeded("not done in time")),
        () = dropping.cancelled() => refuse(Status::unavailable("shutting down; try again")),
    }
}

async fn authenticate(State(verifier): State<Verifier>, mut request: Request, next: Next) -> Response {
    let mut tokens = request.headers().get_all(principal::METADATA).iter();
    if let Some(token) = tokens.next() {
        if tokens.next().is_some() {
            return refuse(Status::unauthenticated("more than one principal"));
        }
        match verifier.verify(token.to_str().unwrap_or_default()).await {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
            }
            Err(TokenError::Invalid(reason)) => {
                tracing::warn!(reason, "a principal token was refused");
                return refuse(Status::unauthenticated("the principal token is not valid"));
            }
            Err(TokenError::Unavailable(reason)) => {
                tracing::warn!(reason, "a principal token could not be verified");
                return refuse(Status::unavailable("the principal can't be verified now; try again"));
            }
        }
    }
    next.run(request).await
}

fn refuse(status: Status) -> Response {
    status.into_http::<Body>()
}

/// Reads `grpc-timeout` (gRPC over HTTP/2): at most eight digits and a unit.
fn timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(timeout("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(timeout("0m"), Some(Duration::ZERO));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("7u"), Some(Duration::from_micros(7)));
        for bad in ["", "S", "1", "-1S", "+1S", "1 S", "1x", "123456789S", "1µ"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
