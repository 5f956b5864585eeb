//! HTTP/1.1 connections to one endpoint: a stack of idle ones, the last used on top, so that few stay warm and the rest
//! grow old. A connection carries one request at a time and comes back when the response's body has been read to its end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use crate::{
    Body, BoxError,
    config::{IDLE, MAX_IDLE},
    error::{Cause, Failure},
    forward,
    lane::{Lane, UnderWay},
};

type Sender = http1::SendRequest<Outgoing>;

#[derive(Default)]
pub(crate) struct Pool {
    /// In the order they became idle.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

/// One try.
pub(crate) async fn send(
    mut under_way: UnderWay,
    pool: &Pool,
    slot: &mut Option<Request<Body>>,
) -> Result<Response<Body>, Failure> {
    loop {
        let (mut sender, is_reused) = match pool.take(under_way.started) {
            Some(sender) => (sender, true),
            None => {
                // Boxed, so that requests that find a connection needn't carry its state.
                let sender = Box::pin(open(&under_way.lane)).await?;
                under_way.connected();
                (sender, false)
            }
        };
        let Some(mut request) = slot.take() else {
            return Err(Failure::new(Cause::RequestBody, "the request can't be sent again"));
        };
        forward::to_http1(&mut request, &under_way.lane.endpoint);
        match sender.try_send_request(request.map(Outgoing)).await {
            Ok(response) => {
                under_way.answered();
                return Ok(received(response, Held { sender, under_way }));
            }
            Err(mut failed) => match failed.take_message() {
                // The connection went stale while it was idle; the others may have too. Ends with a new connection.
                Some(request) => {
                    *slot = Some(request.map(|Outgoing(body)| body));
                    if !is_reused {
                        return Err(Failure::new(Cause::Closed, "the connection was closed as soon as it was made"));
                    }
                }
                None => return Err(why(&failed.into_error())),
            },
        }
    }
}

async fn open(lane: &Arc<Lane>) -> Result<Sender, Failure> {
    let _waiting = lane.connector.wait()?;
    let (stream, permit) = lane.connector.connect().await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::new(Cause::Connect, error.to_string()))?;
    tokio::spawn(async move {
        // How it ended is told to the request on it; an idle one may end as it likes.
        let _ = connection.with_upgrades().await;
        drop(permit);
    });
    lane.keep_swept();
    Ok(sender)
}

fn received(response: Response<Incoming>, held: Held) -> Response<Body> {
    let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let mut response = response.map(|incoming| {
        if is_upgrade {
            // The connection now belongs to whoever takes the upgrade.
            Body::empty()
        } else if incoming.is_end_stream() {
            held.give_back();
            Body::empty()
        } else {
            Body::from(ResponseBody { incoming, held: Some(held) })
        }
    });
    forward::from_http1(&mut response);
    response
}

fn why(error: &hyper::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(Unreadable(why)) = error.downcast_ref::<Unreadable>() {
            return Failure::new(Cause::RequestBody, format!("the request's body can't be read: {why}"));
        }
        source = error.source();
    }
    Failure::new(Cause::Broken, format!("the connection broke: {error}"))
}

impl Pool {
    fn take(&self, now: Instant) -> Option<Sender> {
        let mut idle = self.idle.lock();
        while let Some(Idle { sender, since }) = idle.pop() {
            if now.saturating_duration_since(since) > IDLE {
                // Those below have been idle for longer.
                idle.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, sender: Sender) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    pub fn sweep(&self, now: Instant) {
        self.idle.lock().retain(|idle| !idle.sender.is_closed() && now.saturating_duration_since(idle.since) < IDLE);
    }
}

/// A connection with a request on it.
struct Held {
    sender: Sender,
    under_way: UnderWay,
}

impl Held {
    fn give_back(self) {
        let Self { mut sender, under_way } = self;
        let lane = Arc::clone(&under_way.lane);
        drop(under_way);
        if sender.is_closed() {
            return;
        }
        if sender.is_ready() {
            if let Some(pool) = lane.http1() {
                pool.put(sender);
            }
            return;
        }
        // The response has ended but the connection hasn't noticed, or still sends the request: rare.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(Ok(())) = tokio::time::timeout(IDLE, sender.ready()).await
                    && let Some(pool) = lane.http1()
                {
                    pool.put(sender);
                }
            });
        }
    }
}

/// A response's body that gives its connection back at its end. Dropped before, it closes the connection.
pub(crate) struct ResponseBody {
    incoming: Incoming,
    held: Option<Held>,
}

impl ResponseBody {
    fn finish_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(held) = self.held.take()
        {
            held.give_back();
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(context));
        match &frame {
            Some(Ok(_)) => this.finish_at_end(),
            Some(Err(_)) => this.held = None,
            None => {
                if let Some(held) = this.held.take() {
                    held.give_back();
                }
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        // Without a length, the incoming body doesn't know.
        self.held.is_none() || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // Whoever knows the length needn't poll for the end.
        self.finish_at_end();
    }
}

/// A request's body whose error can be told from the connection's.
struct Outgoing(Body);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreadable(BoxError);

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Unreadable;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unreadable>>> {
        Pin::new(&mut self.0).poll_frame(context).map_err(Unreadable)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
