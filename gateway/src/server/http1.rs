//! HTTP/1.1, served by hyper.

use std::convert::Infallible;

use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::TokioIo;

use super::{
    connection::{drive, head},
    watchdog::{Activity, Watched},
};
use crate::{config::Limits, layers::Response};

/// Serves one connection.
///
/// # Errors
/// How the connection broke.
pub async fn serve<S>(io: Watched, service: S, activity: &Activity, limits: &Limits) -> hyper::Result<()>
where
    S: Service<http::Request<Incoming>, Response = Response, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    // The watchdog keeps the time of heads, for less than hyper's timer a request.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .half_close(false)
        .max_buf_size(head(limits))
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    drive(connection, |connection| connection.graceful_shutdown(), activity).await
}
