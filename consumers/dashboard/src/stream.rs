//! `GET /dashboard/stream`: a snapshot (or, after `Last-Event-ID`, what was missed), then each change, as Server-Sent
//! Events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    board::{Board, Version},
    metrics,
    problem::Problem,
};

/// The most pages that are fed at a time.
const MOST: usize = 256;
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a page is fed before it has to come again, so that who has signed out since is noticed.
const LIFETIME: Duration = Duration::from_secs(300);
/// When a page comes again after its stream has ended.
const RETRY: Duration = Duration::from_millis(500);

/// Feeds pages. Clones count together.
#[derive(Clone)]
pub(crate) struct Streams {
    board: Board,
    places: Arc<Semaphore>,
    draining: CancellationToken,
}

/// A page that is fed.
struct Feed {
    board: Board,
    versions: watch::Receiver<u64>,
    /// What the page knows; None: nothing yet.
    seen: Option<Version>,
    begun: bool,
    ends: Instant,
    draining: CancellationToken,
    _place: Place,
}

struct Place(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl Streams {
    pub fn new(board: Board, draining: CancellationToken) -> Self {
        Self { board, places: Arc::new(Semaphore::new(MOST)), draining }
    }

    pub fn open(
        &self,
        last_event_id: Option<&str>,
    ) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, Problem> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            metrics::stream_refused();
            return Err(Problem::busy(format!("{MOST} pages are fed already"), 5));
        };
        metrics::stream_opened();
        let feed = Feed {
            board: self.board.clone(),
            versions: self.board.versions(),
            seen: last_event_id.and_then(|id| self.board.version(id)),
            begun: false,
            ends: Instant::now() + LIFETIME,
            draining: self.draining.clone(),
            _place: Place(permit),
        };
        let events = stream::unfold(feed, async |mut feed| Some((Ok(feed.next().await?), feed)));
        Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("heartbeat")))
    }
}

impl Feed {
    /// The next event, once there is one; None: the stream ends, and the page comes again.
    async fn next(&mut self) -> Option<Event> {
        if std::mem::replace(&mut self.begun, true) {
            tokio::select! {
                () = self.draining.cancelled() => return None,
                () = tokio::time::sleep_until(self.ends) => return None,
                changed = self.versions.changed() => changed.ok()?,
            }
        }
        self.versions.borrow_and_update();
        let (kind, (version, text)) = match self.seen {
            Some(seen) => ("delta", self.board.after(seen)),
            None => ("snapshot", self.board.snapshot()),
        };
        self.seen = Some(version);
        Some(Event::default().event(kind).id(self.board.position(version)).retry(RETRY).data(text))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::stream_closed();
    }
}
