//! Accepting connections and speaking HTTP/2 on them.
//!
//! Not tonic's own server: that answers CANCELLED where a deadline passes, around every layer of ours, and leaves its
//! connections to themselves when it is dropped. What is called is tonic's.

use std::{pin::pin, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use lifecycle::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

/// The most connections at once; gateways and services keep a few each.
const MAX_CONNECTIONS: usize = 1024;
/// The most calls at once on one connection.
const MAX_STREAMS: u32 = 256;
/// The most metadata of one call, in bytes.
const MAX_METADATA: u32 = 32 * 1024;
/// How often a silent connection is asked whether it still lives, and how long it may take to say so.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long accepting rests after it failed: for want of file descriptors, most likely.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long a connection has to send the last answers once calls are dropped.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Accepts until the drain, then closes the listener and waits until every connection has finished its calls.
pub(crate) async fn serve(listener: TcpListener, routes: Routes, shutdown: Shutdown) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.draining().cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) if connections.len() >= MAX_CONNECTIONS => {
                tracing::warn!(%peer, "too many connections; this one is closed");
                drop(stream);
            }
            Ok((stream, _)) => {
                connections.spawn(connection(stream, routes.clone(), shutdown.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, routes: Routes, shutdown: Shutdown) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection broke at once");
        return;
    }
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_METADATA);
    let service = TowerToHyperService::new(routes);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.draining().cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = last_answers(&shutdown) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn last_answers(shutdown: &Shutdown) {
    shutdown.dropping().cancelled().await;
    tokio::time::sleep(LAST_ANSWERS).await;
}
