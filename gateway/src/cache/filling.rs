//! An answer on its way to the first who asked while it is being kept. It is read as fast as the service sends it, so that
//! a slow client holds up nobody who waits for the same; what is larger than may be kept goes on at that client's pace.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use upstream::{Body, BoxError};

use super::{Landed, Lead, Room, Stored};

/// How long others wait for the rest of an answer that has begun.
const PATIENCE: Duration = Duration::from_secs(1);

/// What comes to the first client: never more than may be kept is on its way.
enum Piece {
    Frame(Frame<Bytes>),
    Broken(BoxError),
    /// It is too large: the rest comes from the service itself.
    Rest(Body),
}

/// What the first client reads.
struct Filling {
    pieces: UnboundedReceiver<Piece>,
    rest: Option<Body>,
    hint: SizeHint,
    taken: u64,
    /// While something may be on its way.
    room: Option<Arc<Room>>,
}

/// Parts a body in two: what the first client reads, and what keeps it. The second is to be run by a task of its own; it
/// ends when nobody wants the answer any more.
pub fn part<K>(body: Body, room: Room, lead: Option<Lead<Landed>>, keep: K) -> (Body, impl Future<Output = ()>)
where
    K: FnOnce(Bytes) -> Option<Arc<Stored>>,
{
    let (pieces, received) = unbounded_channel();
    let (hint, room) = (body.size_hint(), Arc::new(room));
    let filling = Filling { pieces: received, rest: None, hint, taken: 0, room: Some(Arc::clone(&room)) };
    (Body::new(filling), fill(body, room, pieces, lead, keep))
}

async fn fill<K>(
    mut body: Body,
    room: Arc<Room>,
    pieces: UnboundedSender<Piece>,
    mut lead: Option<Lead<Landed>>,
    keep: K,
) where
    K: FnOnce(Bytes) -> Option<Arc<Stored>>,
{
    let mut whole = BytesMut::new();
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = &mut patience, if lead.is_some() => {
                pass(lead.take());
                continue;
            }
            // Whoever reads it has gone, and nobody waits.
            () = pieces.closed(), if lead.as_ref().is_none_or(|lead| !lead.is_awaited()) => return,
        };
        match frame {
            None => break,
            Some(Err(error)) => {
                pass(lead.take());
                _ = pieces.send(Piece::Broken(error));
                return;
            }
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let is_too_large = whole.len() + length > room.object();
                if let Some(data) = frame.data_ref().filter(|_| !is_too_large) {
                    whole.extend_from_slice(data);
                }
                // Nobody may read it any more; others may wait.
                _ = pieces.send(Piece::Frame(frame));
                if is_too_large {
                    pass(lead.take());
                    _ = pieces.send(Piece::Rest(body));
                    return;
                }
            }
        }
    }
    let kept = keep(whole.freeze());
    match (lead, kept) {
        (Some(lead), Some(stored)) => lead.tell(Landed::Kept(stored)),
        (lead, _) => pass(lead),
    }
}

fn pass(lead: Option<Lead<Landed>>) {
    if let Some(lead) = lead {
        lead.tell(Landed::Passed);
    }
}

impl http_body::Body for Filling {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(rest) = &mut self.rest {
                return Pin::new(rest).poll_frame(context);
            }
            match ready!(self.pieces.poll_recv(context)) {
                Some(Piece::Frame(frame)) => {
                    self.taken += frame.data_ref().map_or(0, Bytes::len) as u64;
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Piece::Broken(error)) => return Poll::Ready(Some(Err(error))),
                Some(Piece::Rest(body)) => (self.rest, self.room) = (Some(body), None),
                None => {
                    self.room = None;
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.rest, self.hint.exact()) {
            (Some(rest), _) => rest.size_hint(),
            (None, Some(length)) => SizeHint::with_exact(length.saturating_sub(self.taken)),
            (None, None) => SizeHint::new(),
        }
    }
}
