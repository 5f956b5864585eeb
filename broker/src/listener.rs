//! Accepting connections and speaking HTTP on them, until the drain and then until each has finished.

use std::{pin::pin, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use lifecycle::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use crate::stall::Patient;

/// What a connection may hold back of an answer that its client doesn't take.
const WRITE_BUFFER: usize = 64 * 1024;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long accepting rests after it failed: for want of file descriptors, most likely.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// How long a connection has to send its last bytes once everything is dropped.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// What connections may take.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// The most at once.
    pub connections: usize,
    /// How long a client may take nothing of what is written to it.
    pub stall: Duration,
}

/// Accepts connections within the bounds. Returns once every one is over.
pub(crate) async fn serve(listener: TcpListener, router: Router, bounds: Bounds, shutdown: Shutdown) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.draining().cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) if connections.len() >= bounds.connections => {
                tracing::warn!(%peer, "too many connections; this one is closed");
                drop(stream);
            }
            Ok((stream, _)) => {
                connections.spawn(connection(stream, bounds.stall, router.clone(), shutdown.clone()));
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

async fn connection(stream: TcpStream, stall: Duration, router: Router, shutdown: Shutdown) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection broke at once");
        return;
    }
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(WRITE_BUFFER);
    server.http2().timer(TokioTimer::new());
    let service = TowerToHyperService::new(router);
    let mut connection =
        pin!(server.serve_connection_with_upgrades(TokioIo::new(Patient::new(stream, stall)), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.draining().cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = last_bytes(&shutdown) => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn last_bytes(shutdown: &Shutdown) {
    shutdown.dropping().cancelled().await;
    tokio::time::sleep(LAST_BYTES).await;
}
