//! One HTTP/2 connection: how it is opened, kept alive and given up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Ping, PingPong, client::SendRequest};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    connect::Connector,
    error::{Cause, Failure},
};

const STREAM_WINDOW: u32 = 256 * 1024;
/// Streams that one connection gets, however many the service allows.
const MAX_STREAMS: u32 = 256;
/// Room for all its streams: answers that nobody reads (a client is slow) would else hold up those of others.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Headers of a response, in bytes.
const MAX_HEADERS: u32 = 60 * 1024;
/// How often an idle connection is asked whether it lives. Busy ones aren't: gRPC servers take frequent pings between
/// messages for abuse, and their requests have deadlines.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A connection that answers no ping in this time is dead.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Doubts that come faster than this are one doubt.
const PING_PAUSE: Duration = Duration::from_secs(1);

/// A connection as the pool holds it. Dropping the last sender closes the connection once its streams have ended.
pub(super) struct Connection {
    pub sender: SendRequest<Bytes>,
    pub vitals: Arc<Vitals>,
}

/// What a connection's streams, its pool and its watcher share.
pub(super) struct Vitals {
    pub streams: AtomicUsize,
    is_closed: AtomicBool,
    /// Since when it has had no streams.
    idle_since: Mutex<Instant>,
    /// A stream got no answer: is the connection dead?
    doubt: Notify,
}

/// A stream taken on a connection, until it has ended.
pub(crate) struct Stream {
    vitals: Arc<Vitals>,
    is_answered: bool,
    /// Its place among those that wait, where the connection's streams are all in use.
    queued: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// `max_streams`: what to take for the service's limit until it tells.
    pub async fn open(connector: &Connector, max_streams: usize) -> Result<Self, Failure> {
        let (socket, permit) = connector.connect().await?;
        let (sender, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(max_streams)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .handshake::<_, Bytes>(socket)
            .await
            .map_err(|error| Failure::new(Cause::Connect, format!("no HTTP/2 handshake: {error}")))?;
        let vitals = Arc::new(Vitals {
            streams: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            doubt: Notify::new(),
        });
        let pings = connection.ping_pong();
        let watched = Arc::clone(&vitals);
        // Streams learn from h2 how the connection ended.
        let mut driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        // A task of its own, so that the timer costs nothing when frames come and go.
        tokio::spawn(async move {
            tokio::select! {
                _ = &mut driver => {}
                () = watched.until_dead(pings) => {}
            }
            watched.is_closed.store(true, Relaxed);
            drop(permit);
        });
        Ok(Self { sender, vitals })
    }

    /// Whether it takes new streams: false once it is closed or was told to go away.
    pub fn is_open(&mut self) -> bool {
        // This sender opens no streams itself, so it is never pending.
        !self.vitals.is_closed.load(Relaxed)
            && matches!(self.sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
    }

    pub fn max_streams(&self) -> usize {
        self.sender.current_max_send_streams().min(MAX_STREAMS as usize)
    }

    pub fn free_streams(&self) -> usize {
        self.max_streams().saturating_sub(self.vitals.streams.load(Relaxed))
    }

    pub fn take(&self, queued: Option<OwnedSemaphorePermit>) -> (SendRequest<Bytes>, Stream) {
        self.vitals.streams.fetch_add(1, Relaxed);
        (self.sender.clone(), Stream { vitals: Arc::clone(&self.vitals), is_answered: false, queued })
    }
}

impl Vitals {
    /// How long it has had no streams.
    pub fn idle_for(&self, now: Instant) -> Option<Duration> {
        (self.streams.load(Relaxed) == 0).then(|| now.saturating_duration_since(*self.idle_since.lock()))
    }

    async fn until_dead(&self, pings: Option<PingPong>) {
        let Some(mut pings) = pings else { return std::future::pending().await };
        loop {
            tokio::select! {
                () = self.doubt.notified() => {}
                () = sleep(PING_EVERY) => if self.streams.load(Relaxed) > 0 { continue },
            }
            match timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await {
                Ok(Ok(_)) => sleep(PING_PAUSE).await,
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

impl Stream {
    pub fn answered(&mut self) {
        self.is_answered = true;
        self.queued = None;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.vitals.streams.fetch_sub(1, Relaxed) == 1 {
            *self.vitals.idle_since.lock() = Instant::now();
        }
        if !self.is_answered {
            self.vitals.doubt.notify_one();
        }
    }
}
