//! HTTP/2, served by hyper.

use std::{convert::Infallible, time::Duration};

use hyper::{body::Incoming, server::conn::http2, service::Service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::{
    connection::{drive, head},
    watchdog::{Activity, Watched},
};
use crate::{config::Limits, layers::Response};

const STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
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
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(head(limits)).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    drive(connection, |connection| connection.graceful_shutdown(), activity).await
}
