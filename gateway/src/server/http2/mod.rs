//! HTTP/2, served by hyper, under the eyes of a guard.

mod budget;
mod flow;
mod guard;
mod guarded;
mod pace;
mod reason;
mod scan;
mod silence;

use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use hyper::{body::Incoming, server::conn::http2, service::Service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use self::{
    guard::{Guard, Verdict},
    guarded::Guarded,
    reason::Reason,
    silence::{Noting, Silences},
};
use super::{
    activity::{Activity, Watched},
    connection::head,
};
use crate::{config::Limits, layers::Response, metrics::METRICS};

/// A silent peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves one connection.
///
/// # Errors
/// How the connection broke.
pub async fn serve<S>(io: Watched, service: S, activity: &Activity, limits: &Limits) -> hyper::Result<()>
where
    S: Service<http::Request<Incoming>, Response = Response, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    activity.multiplexed();
    let (guard, silences) = (Guard::new(limits), Silences::default());
    let tick = guard.tick();
    let guard = Arc::new(Mutex::new(guard));
    let io = Guarded { io, guard: Arc::clone(&guard), said_farewell: false };
    let service = Noting { inner: service, silences: silences.clone() };
    let connection = builder(limits).serve_connection(TokioIo::new(io), service);
    let (mut connection, mut alarm) = (pin!(connection), pin!(sleep(tick)));
    let (mut finishing, mut is_far) = (false, false);
    let served = poll_fn(|context| {
        loop {
            if !finishing && activity.is_draining(context) {
                finishing = true;
                connection.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(served) = connection.as_mut().poll(context) {
                return Poll::Ready(served);
            }
            if is_far && guard.lock().is_restless() {
                is_far = false;
                alarm.as_mut().reset(Instant::now() + tick);
            }
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let verdict = guard.lock().examine(now, silences.any());
            let next = match verdict {
                Verdict::Again(next) => next,
                Verdict::Idle if finishing => return Poll::Ready(Ok(())),
                Verdict::Idle => {
                    finishing = true;
                    connection.as_mut().graceful_shutdown();
                    tick
                }
                Verdict::End(_) => {
                    // Once more, for the last words.
                    _ = connection.as_mut().poll(context);
                    return Poll::Ready(Ok(()));
                }
            };
            is_far = next > tick;
            alarm.as_mut().reset(now + next);
        }
    })
    .await;
    let guard = guard.lock();
    if let Some(reason) = guard.ended.or(guard.broken.map(|_| Reason::Protocol)) {
        METRICS.http2_ended(reason.name());
    }
    served
}

fn builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let config = &limits.http2;
    let bytes = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.streams)
        .initial_stream_window_size(bytes(config.stream_window.0))
        .initial_connection_window_size(bytes(config.connection_window.0))
        .max_send_buf_size(usize::try_from(config.send_buffer.0).unwrap_or(usize::MAX))
        .max_header_list_size(u32::try_from(head(limits)).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(config.resets.burst as usize)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
