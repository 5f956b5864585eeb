//! WebSocket upgrades (RFC 6455): the handshake is passed on, then the two connections are joined byte by byte. Frames are
//! not read.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Response, header};
use http1::upgrade::OnUpgrade;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::Instant,
};
use upstream::{Body, Way};

use crate::{
    error::{Error, ErrorKind},
    outcome::{Outcome, Tunnel},
};

/// A client's wish to speak WebSocket, taken out of its request.
pub struct Request {
    downstream: OnUpgrade,
}

impl Request {
    /// None where the request asks for nothing or for another protocol, which then isn't passed on: an h2c upgrade would
    /// carry requests past every rule here.
    pub fn take(request: &mut http::Request<Body>) -> Option<Self> {
        let headers = request.headers_mut();
        let named = has_token(headers, &header::CONNECTION, "upgrade");
        let asks = has_token(headers, &header::UPGRADE, "websocket") && named;
        headers.remove(header::UPGRADE);
        asks.then(|| request.extensions_mut().remove::<OnUpgrade>()).flatten().map(|downstream| Self { downstream })
    }

    /// Puts the two fields back that no other request has.
    pub fn restore(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }

    /// Answers 101 and joins the connections when it is sent. They are closed when both directions have ended, or nothing
    /// has moved for `idle`.
    pub fn join(
        self,
        mut response: Response<Body>,
        idle: Duration,
        outcome: &Arc<Outcome>,
    ) -> Result<Response<Body>, Error> {
        let invalid = |cause| Error::new(ErrorKind::BadGateway, "the service gave no valid answer").cause(cause);
        if !has_token(response.headers(), &header::UPGRADE, "websocket") {
            return Err(invalid("101 to another protocol than websocket"));
        }
        let Some(upstream) = response.extensions_mut().remove::<OnUpgrade>() else {
            return Err(invalid("101 without a connection"));
        };
        let tunnel = outcome.tunnel();
        // The task lives as long as the two connections, which the timeout bounds.
        tokio::spawn(async move {
            // The service's end is there already.
            match tokio::time::timeout(idle, async { tokio::try_join!(self.downstream, upstream) }).await {
                Ok(Ok((downstream, upstream))) => {
                    let ended = relay(downstream, upstream, idle, Some(&tunnel)).await;
                    tracing::debug!(?ended, "a websocket ended");
                }
                Ok(Err(error)) => tracing::debug!(%error, "an upgrade failed"),
                Err(_) => tracing::debug!("an upgrade took too long"),
            }
        });
        Ok(response.map(|_| Body::empty()))
    }
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(token)))
}

/// Copies both ways until both have ended, or nothing has moved for `idle`.
async fn relay<A, B>(downstream: A, upstream: B, idle: Duration, tunnel: Option<&Tunnel>) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let clock = Clock::start();
    let mut downstream =
        Watched { io: downstream, clock: clock.clone(), passed: tunnel.map(|tunnel| (tunnel, Way::Request)) };
    let mut upstream =
        Watched { io: upstream, clock: clock.clone(), passed: tunnel.map(|tunnel| (tunnel, Way::Response)) };
    tokio::select! {
        copied = copy_bidirectional(&mut downstream, &mut upstream) => copied.map(|_| ()),
        () = clock.silence(idle) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// When something last moved, in milliseconds since the start.
#[derive(Clone)]
struct Clock {
    start: Instant,
    moved: Arc<AtomicU64>,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), moved: Arc::default() }
    }

    fn touch(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(elapsed, Ordering::Relaxed);
    }

    async fn silence(&self, idle: Duration) {
        loop {
            let end = self.start + Duration::from_millis(self.moved.load(Ordering::Relaxed)) + idle;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

struct Watched<'a, T> {
    io: T,
    clock: Clock,
    /// Who is told how much is read of it.
    passed: Option<(&'a Tunnel, Way)>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_ready() {
            self.clock.touch();
            if let Some((tunnel, way)) = self.passed {
                tunnel.passed(way, buffer.filled().len() - before);
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_moves_keeps_the_connection_and_silence_ends_it() {
        let ((mut client, downstream), (upstream, mut server)) = (duplex(64), duplex(64));
        let relay = tokio::spawn(relay(downstream, upstream, Duration::from_secs(10), None));
        let start = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(9)).await;
            client.write_all(b"ping").await.unwrap();
            let mut read = [0; 4];
            server.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"ping");
        }
        let ended = relay.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 37);
    }

    #[tokio::test]
    async fn both_ends_closing_ends_it() {
        let ((client, downstream), (upstream, server)) = (duplex(64), duplex(64));
        let relay = tokio::spawn(relay(downstream, upstream, Duration::from_secs(10), None));
        drop((client, server));
        relay.await.unwrap().unwrap();
    }
}
