//! A request's way from [`crate::Client`] to a connection, outermost first. This file is the order:
//!
//! 1. deadline: outermost, so that it bounds connecting, waiting and every retry together;
//! 2. retry, with its budget: above the balancer, so that another try means another endpoint;
//! 3. balance: on every try, so that each request goes where it is answered soonest;
//! 4. trace: a span a try, so that a trace shows each, and where it went;
//! 5. lane: a pooled connection to that endpoint, opened where none is free.

use std::{pin::pin, sync::Arc, time::Instant};

use http::{HeaderMap, Method, Request, Response};
use tokio::time::{sleep, timeout, timeout_at};

use crate::{
    Body, Error, ErrorKind, Options, Protocol,
    client::Shared,
    error::{Cause, Failure},
    forward, grpc,
    lane::Lane,
    retry,
    trace::Try,
};

/// The head of the response, or why there is none; its body comes at its own pace.
pub(crate) async fn send(
    client: &Shared,
    mut request: Request<Body>,
    options: Options,
) -> Result<Response<Body>, Error> {
    let started = Instant::now();
    let upstream = &client.upstream;
    if request.method() == Method::CONNECT {
        return Err(upstream.error(ErrorKind::Unreachable, "CONNECT is not passed on"));
    }
    let mut deadline = options.deadline;
    if upstream.config.protocol == Protocol::Grpc {
        deadline = grpc::earliest(deadline, request.headers(), started);
    }
    forward::prepare(&mut request, upstream.config.protocol, upstream.host.as_ref());

    // Pinned here: handed on by value it would be copied, request and all.
    let mut request = Some(request);
    let tries = pin!(with_retries(client, &mut request, deadline, options.idempotent, started));
    let answer = match deadline {
        None => tries.await.map_err(|failure| upstream.error(failure.cause.kind(), failure.detail)),
        Some(deadline) if deadline <= started => {
            Err(upstream.error(ErrorKind::Deadline, "the deadline had passed before the request was sent"))
        }
        Some(deadline) => match timeout_at(deadline.into(), tries).await {
            Ok(answer) => answer.map_err(|failure| upstream.error(failure.cause.kind(), failure.detail)),
            Err(_) => Err(upstream.error(ErrorKind::Deadline, "no answer within the deadline")),
        },
    };
    if let Some(metrics) = &upstream.metrics {
        metrics.finished(answer.as_ref().err().map(|error| error.kind), started.elapsed());
    }
    answer
}

async fn with_retries(
    client: &Shared,
    request: &mut Option<Request<Body>>,
    deadline: Option<Instant>,
    idempotent: bool,
    mut now: Instant,
) -> Result<Response<Body>, Failure> {
    let config = &client.upstream.config;
    client.budget.deposit(now);
    let mut failed_at = None;
    let mut retries = 0;
    loop {
        let may_retry = retries < config.retries;
        // HTTP/1.1 leaves the request where it is; h2 hands back nothing.
        let needs_copy = may_retry && config.protocol != Protocol::Http1;
        let copy = needs_copy.then(|| request.as_ref().and_then(retry::repeat)).flatten();

        let (lane, has_others) = balance(client, failed_at.as_ref(), now).await?;
        let traced = Try::begin(config, &lane.endpoint, request.as_mut(), retries);
        let answer = attempt(client, &lane, request, deadline, now).await;
        traced.answered(&answer);
        let cause = match &answer {
            Ok(response) if config.protocol == Protocol::Grpc && is_unavailable(response.headers()) => {
                Cause::Unavailable
            }
            Ok(_) => return answer,
            Err(failure) => failure.cause,
        };
        if request.is_none() {
            *request = copy;
        }
        if !may_retry || request.is_none() || !cause.allows_retry(idempotent) {
            return answer;
        }
        now = Instant::now();
        if !cause.cost_nothing() && !client.budget.withdraw(now) {
            count_retry(client, "budget");
            return answer;
        }
        // The answer that is given up ends before the next begins.
        drop(answer);
        retries += 1;
        count_retry(client, cause.label());
        let endpoint = &lane.endpoint.address;
        tracing::debug!(upstream = config.name, endpoint, cause = cause.label(), "trying again");
        // Another endpoint is free to be asked at once if this one did nothing; the same one needs a moment.
        if !cause.cost_nothing() || !has_others {
            sleep(client.backoff(retries)).await;
            now = Instant::now();
        }
        failed_at = Some(lane);
    }
}

fn count_retry(client: &Shared, reason: &'static str) {
    if let Some(metrics) = &client.upstream.metrics {
        metrics.retried(reason);
    }
}

/// The lane for a try, and whether there are others. Waits where no address is known yet, as long as for a connection.
async fn balance(client: &Shared, avoid: Option<&Arc<Lane>>, now: Instant) -> Result<(Arc<Lane>, bool), Failure> {
    if let Some(chosen) = client.choose(avoid, now) {
        return Ok(chosen);
    }
    // Either way there is an answer below.
    _ = timeout(client.upstream.config.connect_timeout, client.upstream.known()).await;
    client.choose(avoid, now).ok_or_else(|| Failure::new(Cause::Unknown, "no address is known"))
}

fn attempt<'a>(
    client: &'a Shared,
    lane: &'a Arc<Lane>,
    request: &'a mut Option<Request<Body>>,
    deadline: Option<Instant>,
    now: Instant,
) -> impl Future<Output = Result<Response<Body>, Failure>> {
    if client.upstream.config.protocol == Protocol::Grpc
        && let (Some(deadline), Some(request)) = (deadline, &mut *request)
    {
        grpc::set_timeout(request.headers_mut(), deadline.saturating_duration_since(now));
    }
    lane.send(request, now)
}

/// A gRPC response that is UNAVAILABLE and nothing else (trailers only): no message has been seen by anyone.
fn is_unavailable(headers: &HeaderMap) -> bool {
    headers.get(grpc::STATUS).is_some_and(|status| status == "14")
}
