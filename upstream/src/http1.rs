//! HTTP/1.1 connections to one endpoint: a stack of idle ones, the last used on top, so that few stay warm and the rest
//! grow old. A connection carries one request at a time and comes back when the response's body has been read to its end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response, header::HOST};
use http_body::{Frame, SizeHint};
use http1::client::{Connection, Error, Incoming};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    Body, BoxError,
    config::{IDLE, MAX_IDLE},
    error::{Cause, Failure},
    forward,
    lane::{Lane, UnderWay},
    retry,
    stream::Stream,
};

#[derive(Default)]
pub(crate) struct Pool {
    /// In the order they became idle.
    idle: Mutex<Vec<Idle>>,
    /// None is kept any more.
    is_retired: AtomicBool,
}

struct Idle {
    open: Open,
    since: Instant,
}

struct Open {
    connection: Connection<Stream, Body>,
    /// Its place among the upstream's connections.
    permit: OwnedSemaphorePermit,
}

/// One try. The request stays in its slot unless its body is gone.
pub(crate) async fn send(
    mut under_way: UnderWay,
    pool: &Pool,
    slot: &mut Option<Request<Body>>,
) -> Result<Response<Body>, Failure> {
    let Some(request) = slot else {
        return Err(Failure::new(Cause::RequestBody, "the request can't be sent again"));
    };
    let adds_host = forward::to_http1(request, &under_way.lane.endpoint);
    let failure = loop {
        let (open, is_reused) = match pool.take(under_way.started) {
            Some(open) => (open, true),
            // Boxed, so that requests that find a connection needn't carry its state.
            None => match Box::pin(open(&under_way.lane)).await {
                Ok(open) => {
                    under_way.connected();
                    (open, false)
                }
                Err(failure) => break failure,
            },
        };
        let body = std::mem::take(request.body_mut());
        let again = body.repeat();
        let Open { connection, permit } = open;
        let why = match connection.send(request, body).await {
            Ok(response) => {
                under_way.answered(response.status(), response.headers());
                if retry::is_transient(response.status().as_u16()) {
                    keep(slot, again, adds_host);
                }
                return Ok(received(response, Held { permit, under_way }));
            }
            Err(why) => why,
        };
        let Some(body) = again else {
            *slot = None;
            return Err(failure(why));
        };
        *request.body_mut() = body;
        // It went stale while it was idle; the others may have too. Ends with a new connection.
        if !(is_reused && matches!(why, Error::Unsent(_))) {
            break failure(why);
        }
    };
    if adds_host {
        request.headers_mut().remove(HOST);
    }
    Err(failure)
}

/// Leaves the request as it was, where its body can be had again.
fn keep(slot: &mut Option<Request<Body>>, body: Option<Body>, adds_host: bool) {
    let (Some(request), Some(body)) = (&mut *slot, body) else {
        *slot = None;
        return;
    };
    *request.body_mut() = body;
    if adds_host {
        request.headers_mut().remove(HOST);
    }
}

async fn open(lane: &Arc<Lane>) -> Result<Open, Failure> {
    let _waiting = lane.connector.wait()?;
    let (stream, permit) = lane.connector.connect().await?;
    lane.keep_swept();
    Ok(Open { connection: Connection::new(stream), permit })
}

fn received(response: Response<Incoming<Stream, Body>>, held: Held) -> Response<Body> {
    let mut response = response.map(|mut incoming| match incoming.take_whole() {
        Some(whole) => {
            held.give_back(incoming);
            Body::from(whole)
        }
        None => Body::from(ResponseBody(Some((incoming, held)))),
    });
    forward::from_http1(&mut response);
    response
}

fn failure(why: Error) -> Failure {
    let cause = match why {
        Error::Unsent(_) => Cause::Closed,
        Error::RequestBody(_) => Cause::RequestBody,
        _ => Cause::Broken,
    };
    Failure::new(cause, why.to_string())
}

impl Pool {
    fn take(&self, now: Instant) -> Option<Open> {
        let mut idle = self.idle.lock();
        while let Some(Idle { mut open, since }) = idle.pop() {
            if now.saturating_duration_since(since) > IDLE {
                // Those below have been idle for longer.
                idle.clear();
                return None;
            }
            if open.connection.is_fit() {
                return Some(open);
            }
        }
        None
    }

    fn put(&self, open: Open) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE && !self.is_retired.load(Relaxed) {
            idle.push(Idle { open, since: Instant::now() });
        }
    }

    /// Closes what is idle, and from now on whatever becomes so.
    pub fn retire(&self) {
        let mut idle = self.idle.lock();
        self.is_retired.store(true, Relaxed);
        idle.clear();
    }

    pub fn sweep(&self, now: Instant) {
        let is_young = |since| now.saturating_duration_since(since) < IDLE;
        self.idle.lock().retain_mut(|idle| is_young(idle.since) && idle.open.connection.is_fit());
    }
}

/// What a request holds until its response's body has ended.
struct Held {
    permit: OwnedSemaphorePermit,
    under_way: UnderWay,
}

impl Held {
    fn give_back(self, incoming: Incoming<Stream, Body>) {
        let Self { permit, under_way } = self;
        if let Some(connection) = incoming.into_connection()
            && let Some(pool) = under_way.lane.http1()
        {
            pool.put(Open { connection, permit });
        }
    }
}

/// A response's body that gives its connection back at its end, where it becomes None. Dropped before, it closes it.
pub(crate) struct ResponseBody(Option<(Incoming<Stream, Body>, Held)>);

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some((incoming, _)) = &mut this.0 else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(context));
        if incoming.is_end_stream()
            && let Some((incoming, held)) = this.0.take()
        {
            held.give_back(incoming);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |(incoming, _)| incoming.size_hint())
    }
}
