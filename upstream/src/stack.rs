//! A request's way from [`crate::Client`] to a connection, outermost first. This file is the order:
//!
//! 1. breaker: outermost, so that a service that fails is asked nothing, and counts requests, not tries;
//! 2. deadline: bounds connecting, waiting and every retry together;
//! 3. retry, with its budget: above the balancer, so that another try means another endpoint;
//! 4. balance: on every try, so that each request goes where it is answered soonest;
//! 5. hedge: below the retry, so that a race that nobody won is tried again as one try;
//! 6. trace: a span a try, so that a trace shows each, and where it went;
//! 7. lane: a pooled connection to that endpoint, opened where none is free.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{Method, Request, Response};
use tokio::time::{sleep, timeout, timeout_at};

use crate::{
    Body, Error, ErrorKind, Options, Protocol,
    client::Shared,
    error::{Cause, Failure},
    forward,
    gather::gather,
    grpc, hedge,
    lane::Lane,
    retry::{self, Pause},
    standing::Event,
    trace::Try,
    verdict,
};

type Answer = Result<Response<Body>, Failure>;

/// A request on its way, whichever try it is.
#[derive(Clone, Copy)]
struct Call<'a> {
    client: &'a Shared,
    /// None: nobody has said how long it may take.
    deadline: Option<Instant>,
    /// From when on it is the service's fault that there is no answer.
    patience: Option<Instant>,
    options: Options,
}

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
    let pass = match upstream.breaker.as_ref().map(|breaker| breaker.admit(started)) {
        None => None,
        Some(Ok(pass)) => pass,
        Some(Err(retry_after)) => {
            count_refusal(client, "breaker");
            let error =
                upstream.error(ErrorKind::Open { retry_after }, "the breaker is open: too many requests failed");
            return Err(error);
        }
    };
    if !request.body().is_whole() {
        let body = request.body_mut();
        poll_fn(|context| {
            gather(body, context);
            Poll::Ready(())
        })
        .await;
    }
    let mut deadline = options.deadline;
    if upstream.config.protocol == Protocol::Grpc {
        deadline = grpc::earliest(deadline, request.headers(), started);
    }
    // Whoever still sends, or waits for less long than is usual here, may be the one who is slow.
    let patience = options.deadline.filter(|own| request.body().is_whole() && deadline == Some(*own));
    forward::prepare(&mut request, upstream.config.protocol, upstream.host.as_ref());

    // Pinned here: handed on by value it would be copied, request and all.
    let mut request = Some(request);
    let call = Call { client, deadline, patience, options };
    let tries = pin!(call.with_retries(&mut request, started));
    let (answer, event) = match deadline {
        None => judged(upstream.config.protocol, tries.await),
        Some(deadline) if deadline <= started => {
            (Err(Failure::new(Cause::Slow, "the deadline had passed before the request was sent")), None)
        }
        Some(deadline) => match timeout_at(deadline.into(), tries).await {
            Ok(answer) => judged(upstream.config.protocol, answer),
            Err(_) => {
                let late = Err(Failure::new(Cause::Slow, "no answer within the deadline"));
                (late, patience.map(|_| Event::Failed))
            }
        },
    };
    let now = Instant::now();
    match (pass, &upstream.breaker, event) {
        (Some(pass), _, event) => pass.end(event),
        (None, Some(breaker), Some(event)) => {
            breaker.ended(event, &client.tally, now, |visit| upstream.tallies(visit));
        }
        (None, _, _) => {}
    }
    let answer = answer.map_err(|failure| {
        if let Cause::Limit(cap) = failure.cause {
            count_refusal(client, cap.label());
        }
        upstream.error(failure.cause.kind(), failure.detail)
    });
    if let Some(metrics) = &upstream.metrics {
        metrics.finished(answer.as_ref().err().map(|error| error.kind), now.saturating_duration_since(started));
    }
    answer
}

/// The answer, and what it says of the service.
fn judged(protocol: Protocol, answer: Answer) -> (Answer, Option<Event>) {
    let event = verdict::of_answer(protocol, &answer);
    (answer, event)
}

impl Call<'_> {
    async fn with_retries(self, request: &mut Option<Request<Body>>, mut now: Instant) -> Answer {
        let Self { client, deadline, options, .. } = self;
        let config = &client.upstream.config;
        client.budget.deposit(now);
        let hedge = client.hedge(options);
        let mut failed_at = None;
        let mut retries = 0;
        loop {
            let may_retry = retries < config.retry.attempts;
            let limit = config.retry.per_try_timeout.filter(|_| may_retry && options.idempotent);
            // HTTP/1.1 leaves the request where it is; h2 hands back nothing, and who is given up neither.
            let needs_copy = may_retry && (config.protocol != Protocol::Http1 || limit.is_some() || hedge.is_some());
            let copy = needs_copy.then(|| request.as_ref().and_then(retry::repeat)).flatten();
            let limit = limit.filter(|_| copy.is_some());

            let (mut lane, has_others) = balance(client, failed_at.as_ref(), options.hash, now).await?;
            let answer = if hedge.is_none() && limit.is_none() {
                self.attempt(&lane, request, retries, now).await
            } else {
                let answer;
                (lane, answer) = Box::pin(self.bounded(lane, request, retries, limit, hedge, now)).await;
                answer
            };
            let Some((cause, said)) = retry::judge(&config.retry, config.protocol, &answer) else { return answer };
            // Who is given up keeps what it has taken of the request.
            if request.is_none() || cause == Cause::Slow {
                *request = copy;
            }
            let is_safe = config.retry.is_on(cause) && cause.allows_retry(options.idempotent);
            if !may_retry || request.is_none() || !is_safe {
                return answer;
            }
            now = Instant::now();
            let pause = match said {
                Pause::Never => return answer,
                Pause::Told(pause) => pause,
                // Another endpoint is free to be asked at once if this one did nothing; the same one needs a moment.
                Pause::Backoff if cause.cost_nothing() && has_others => Duration::ZERO,
                Pause::Backoff => client.backoff(retries + 1),
            };
            if !retry::is_in_time(pause, deadline, now) {
                return answer;
            }
            if !cause.cost_nothing() && cause != Cause::Slow && !client.budget.withdraw(now) {
                count_retry(client, "budget");
                return answer;
            }
            // The answer that is given up ends before the next begins.
            drop(answer);
            retries += 1;
            count_retry(client, cause.label());
            let endpoint = &lane.endpoint.address;
            tracing::debug!(upstream = config.name, endpoint, cause = cause.label(), "trying again");
            if !pause.is_zero() {
                sleep(pause).await;
                now = Instant::now();
            }
            failed_at = Some(lane);
        }
    }

    /// A try that others may join, or that is given up for another after some time. Tells whose answer it is.
    async fn bounded(
        self,
        lane: Arc<Lane>,
        request: &mut Option<Request<Body>>,
        retries: u32,
        limit: Option<Duration>,
        hedge: Option<(Duration, u32)>,
        now: Instant,
    ) -> (Arc<Lane>, Answer) {
        let first = Arc::clone(&lane);
        let mut tries = pin!(async {
            match hedge {
                Some((after, max)) => self.hedged(lane, request, retries, after, max, now).await,
                None => {
                    let answer = self.attempt(&lane, request, retries, now).await;
                    (lane, answer)
                }
            }
        });
        let Some(limit) = limit else { return tries.await };
        match timeout(limit, tries.as_mut()).await {
            Ok(answered) => answered,
            // Where no other may begin, this one may as well go on.
            Err(_) if !self.client.budget.withdraw(Instant::now()) => {
                count_retry(self.client, "budget");
                tries.await
            }
            Err(_) => {
                let slow = retry::slow(limit);
                first.tell(Event::Failed, &slow.detail, Instant::now());
                (first, Err(slow))
            }
        }
    }

    async fn hedged(
        self,
        lane: Arc<Lane>,
        request: &mut Option<Request<Body>>,
        retries: u32,
        after: Duration,
        max: u32,
        now: Instant,
    ) -> (Arc<Lane>, Answer) {
        let client = self.client;
        let Some(sent) = request.take() else {
            let gone = Failure::new(Cause::RequestBody, "the request can't be sent again");
            return (lane, Err(gone));
        };
        let spare = retry::repeat(&sent);
        let mut last = Arc::clone(&lane);
        let begin = move |lane: Arc<Lane>, request, number, now| async move {
            let mut slot = Some(request);
            let answer = self.attempt(&lane, &mut slot, retries + number, now).await;
            (lane, answer, slot)
        };
        let another = move |number| {
            let now = Instant::now();
            let request = retry::repeat(spare.as_ref()?)?;
            let (lane, _) = client.choose(Some(&last), self.options.hash, now)?;
            if Arc::ptr_eq(&lane, &last) {
                return None;
            }
            if !client.budget.withdraw(now) {
                count_hedge(client, "budget");
                return None;
            }
            last = Arc::clone(&lane);
            Some(begin(lane, request, number, now))
        };
        let is_good = |(_, answer, _): &(_, Answer, _)| {
            let config = &client.upstream.config;
            answer.as_ref().is_ok_and(|response| !response.status().is_server_error())
                && retry::judge(&config.retry, config.protocol, answer).is_none()
        };
        let finish = hedge::race(begin(lane, sent, 0, now), after, max, another, is_good).await;
        if finish.hedges > 0 {
            count_hedge(client, if finish.number > 0 { "won" } else { "lost" });
        }
        let (lane, answer, slot) = finish.answer;
        *request = slot;
        (lane, answer)
    }

    /// One try; `before` came before it.
    async fn attempt(self, lane: &Arc<Lane>, request: &mut Option<Request<Body>>, before: u32, now: Instant) -> Answer {
        let config = &self.client.upstream.config;
        let _timed = self.client.latencies.as_ref().map(|latencies| latencies.time(now));
        let traced = Try::begin(config, &lane.endpoint, request.as_mut(), before);
        if config.protocol == Protocol::Grpc
            && let Some(request) = &mut *request
        {
            grpc::set_previous(request.headers_mut(), before);
            if let Some(deadline) = self.deadline {
                grpc::set_timeout(request.headers_mut(), deadline.saturating_duration_since(now));
            }
        }
        let answer = lane.send(request, now, self.patience).await;
        traced.answered(&answer);
        answer
    }
}

fn count_refusal(client: &Shared, reason: &'static str) {
    if let Some(metrics) = &client.upstream.metrics {
        metrics.refused(reason);
    }
}

fn count_retry(client: &Shared, reason: &'static str) {
    if let Some(metrics) = &client.upstream.metrics {
        metrics.retried(reason);
    }
}

fn count_hedge(client: &Shared, outcome: &'static str) {
    if let Some(metrics) = &client.upstream.metrics {
        metrics.hedged(outcome);
    }
}

/// The lane for a try, and whether there are others. Waits where no address is known yet, as long as for a connection.
async fn balance(
    client: &Shared,
    avoid: Option<&Arc<Lane>>,
    key: Option<u64>,
    now: Instant,
) -> Result<(Arc<Lane>, bool), Failure> {
    if let Some(chosen) = client.choose(avoid, key, now) {
        return Ok(chosen);
    }
    // Either way there is an answer below.
    _ = timeout(client.upstream.config.connect_timeout, client.upstream.known()).await;
    client.choose(avoid, key, now).ok_or_else(|| Failure::new(Cause::Unknown, "no address is known"))
}
