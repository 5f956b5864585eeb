//! One client connection: within TLS or plain, HTTP/1.1 or HTTP/2, told apart by ALPN or by its first bytes.

use std::{convert::Infallible, future::poll_fn, io, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use hyper::{body::Incoming, service::Service};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};
use upstream::BoxError;

use super::{
    activity::{Activity, Watched},
    admission::Admission,
    http1, http2,
    open::Open,
    proxy_protocol,
    stream::Stream,
};
use crate::{
    config::Limits,
    layers::Response,
    metrics::METRICS,
    snapshot::Snapshot,
    tls::{self, ClientCertificate, Handshakes, Terminator},
};

/// A connection that was taken in.
pub struct Taken {
    pub socket: TcpStream,
    pub client: SocketAddr,
    pub open: Open,
    pub activity: Arc<Activity>,
    pub limits: Arc<Limits>,
    /// None: it comes from the client itself.
    pub front: Option<Front>,
    /// None: it speaks plain HTTP.
    pub tls: Option<(Arc<Terminator>, Handshakes)>,
}

/// What judges the client that a proxy connects for.
pub struct Front {
    pub admission: Arc<Admission>,
    pub snapshot: Arc<Snapshot>,
}

/// Serves a connection until it ends, with the service for whoever the client shows to be. Errors are the client's
/// affair: it went away, or spoke no HTTP.
pub async fn serve<S>(taken: Taken, service: impl FnOnce(SocketAddr, Option<Arc<ClientCertificate>>) -> S)
where
    S: Service<http::Request<Incoming>, Response = Response, Error = Infallible> + http1::Answers,
    S: Send + Sync,
    <S as Service<http::Request<Incoming>>>::Future: Send + 'static,
{
    let Taken { socket, client, mut open, activity, limits, front, tls } = taken;
    // Answers are written whole; waiting for more to send only delays them.
    _ = socket.set_nodelay(true);
    let begun = tokio::select! {
        begun = begin(socket, client, &mut open, front, tls, limits.patience.head) => begun,
        () = drained(&activity) => return,
    };
    let Some(Begun { socket, is_http2, client, certificate }) = begun else { return };
    let service = service(client, certificate);
    let watched = Watched { socket, activity: Arc::clone(&activity), _open: open };
    let served = if is_http2 {
        // Boxed, as the handshake is: connections that need neither stay small.
        Box::pin(http2::serve(watched, service, &activity, &limits)).await.map_err(BoxError::from)
    } else {
        http1::serve(watched, service, &limits).await.map_err(BoxError::from)
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended");
    }
}

/// A connection whose protocol is known.
struct Begun {
    socket: Stream,
    is_http2: bool,
    client: SocketAddr,
    certificate: Option<Arc<ClientCertificate>>,
}

/// None if it ended before that.
async fn begin(
    mut socket: TcpStream,
    mut client: SocketAddr,
    open: &mut Open,
    front: Option<Front>,
    tls: Option<(Arc<Terminator>, Handshakes)>,
    patience: Duration,
) -> Option<Begun> {
    let deadline = Instant::now() + patience;
    if let Some(front) = front {
        let told = timeout_at(deadline, proxy_protocol::read(&mut socket)).await;
        let Ok(Ok(told)) = told else {
            METRICS.connection_refused("proxy_protocol");
            return None;
        };
        if let Some(told) = told {
            match front.admission.admit(told.ip(), &front.snapshot.edge) {
                Ok(seat) => open.take_seat(seat),
                Err(reason) => {
                    METRICS.connection_refused(reason);
                    return None;
                }
            }
            client = told;
        }
    }
    match tls {
        Some((terminator, handshakes)) => {
            let secured = Box::pin(tls::accept(socket, &terminator, &handshakes, deadline)).await?;
            let tls::Secured { stream, certificate, is_http2 } = secured;
            Some(Begun { socket: Stream::Tls(stream), is_http2, client, certificate })
        }
        None => {
            let is_http2 = is_http2(&socket, deadline).await.ok()?;
            Some(Begun { socket: Stream::Plain(socket), is_http2, client, certificate: None })
        }
    }
}

/// What the codec itself reads of a head before the pipeline judges: above the pipeline's limits, so that what is a little
/// too much gets a problem document, and what is far too much a bare refusal.
pub(super) fn head(limits: &Limits) -> usize {
    const SLACK: u64 = 8 << 10;
    usize::try_from(limits.headers.0.saturating_mul(2) + limits.uri.0 + SLACK).unwrap_or(usize::MAX)
}

/// Ends when the drain has begun and a request that was on its way would be here. Who has not begun one is not waited for.
async fn drained(activity: &Activity) {
    const ON_ITS_WAY: Duration = Duration::from_millis(200);
    poll_fn(|context| if activity.is_draining(context) { Poll::Ready(()) } else { Poll::Pending }).await;
    sleep(ON_ITS_WAY).await;
}

/// Whether the client begins with HTTP/2's preface. No method of HTTP/1.1 begins like it.
async fn is_http2(socket: &TcpStream, deadline: Instant) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let mut pause = Duration::from_millis(1);
    let mut first = [0; PREFACE.len()];
    loop {
        let read = timeout_at(deadline, socket.peek(&mut first)).await??;
        match &first[..read] {
            [] => return Err(io::ErrorKind::UnexpectedEof.into()),
            PREFACE => return Ok(true),
            // `P` could become POST as well: bytes that were only looked at wake nobody when more come. Each wait is
            // twice the one before, or many who stop here would keep the core busy.
            begun if PREFACE.starts_with(begun) && Instant::now() < deadline => {
                sleep(pause).await;
                pause *= 2;
            }
            _ => return Ok(false),
        }
    }
}
