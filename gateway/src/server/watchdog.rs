//! Closes connections whose clients take too long: to send a request's head, or to send another request.
//!
//! A timer for each request would cost more than routing it. So a connection only notes what it is doing, by a clock that
//! ticks once a second, and one task a core looks through them at each tick.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::AbortHandle,
};

use super::{open::Open, stream::Stream};

/// How long a client may take to send a request's head.
pub const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may stay without a byte in either direction. Longer than a proxied stream may be silent, which is
/// 300 s: the stream's own limit ends it first.
const IDLE: Duration = Duration::from_secs(310);

/// The connections of a core.
#[derive(Default)]
pub struct Watchdog {
    clock: Arc<AtomicU64>,
    watched: Mutex<Vec<(Arc<Activity>, AbortHandle)>>,
}

/// What a connection is doing (in the lowest two bits) and since which tick (above them).
pub struct Activity {
    clock: Arc<AtomicU64>,
    state: AtomicU64,
    draining: AtomicBool,
    connection: AtomicWaker,
}

/// A request's head is being read.
const HEADING: u64 = 0;
/// A request is being answered.
const BUSY: u64 = 1;
/// The answer has begun; what comes in next is another head.
const ANSWERED: u64 = 2;
/// Many requests at once (HTTP/2): a head is no longer what a client can be slow with.
const MULTIPLEXED: u64 = 3;
const PHASES: u64 = 3;

impl Watchdog {
    /// Notes for a new connection, which has 10 s for its first request.
    pub fn activity(&self) -> Arc<Activity> {
        let clock = Arc::clone(&self.clock);
        let state = AtomicU64::new(clock.load(Relaxed) << 2 | HEADING);
        Arc::new(Activity { clock, state, draining: AtomicBool::new(false), connection: AtomicWaker::new() })
    }

    pub fn watch(&self, activity: Arc<Activity>, connection: AbortHandle) {
        self.watched.lock().push((activity, connection));
    }

    /// Looks after the connections for as long as the core runs.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            self.tick();
        }
    }

    /// Tells every connection to finish what it is doing and close.
    pub fn drain(&self) {
        for (activity, _) in &*self.watched.lock() {
            activity.finish();
        }
    }

    fn tick(&self) {
        let now = self.clock.fetch_add(1, Relaxed) + 1;
        self.watched.lock().retain(|(activity, connection)| {
            if activity.overdue(now) {
                connection.abort();
            }
            !connection.is_finished()
        });
    }
}

impl Activity {
    /// A request's head is complete.
    pub fn request(&self) {
        self.step(|phase| if phase == MULTIPLEXED { MULTIPLEXED } else { BUSY });
    }

    /// The connection is to end when what is under way on it is answered.
    pub fn finish(&self) {
        self.draining.store(true, Release);
        self.connection.wake();
    }

    /// Its answer begins.
    pub fn answered(&self) {
        self.step(|phase| if phase == BUSY { ANSWERED } else { phase });
    }

    pub fn multiplexed(&self) {
        self.step(|_| MULTIPLEXED);
    }

    /// Whether to finish and close; wakes the task when that changes.
    pub fn is_draining(&self, context: &mut Context<'_>) -> bool {
        self.connection.register(context.waker());
        self.draining.load(Acquire)
    }

    fn received(&self) {
        // A head's time runs from its first byte.
        if self.phase() != HEADING {
            self.step(|phase| if phase == ANSWERED { HEADING } else { phase });
        }
    }

    /// Also while the next head waits behind an answer that is still going out, its time doesn't run.
    fn sent(&self) {
        self.step(|phase| phase);
    }

    fn phase(&self) -> u64 {
        self.state.load(Relaxed) & PHASES
    }

    fn step(&self, next: impl FnOnce(u64) -> u64) {
        // Only the connection's own task writes: load and store need not be one.
        self.state.store(self.clock.load(Relaxed) << 2 | next(self.phase()), Relaxed);
    }

    fn overdue(&self, now: u64) -> bool {
        let allowed = if self.phase() == HEADING { HEAD } else { IDLE };
        // The note may have been made right before a tick.
        now.saturating_sub(self.state.load(Relaxed) >> 2) > allowed.as_secs()
    }
}

/// A client's connection that notes when bytes pass.
pub struct Watched {
    pub socket: Stream,
    pub activity: Arc<Activity>,
    pub _open: Open,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.activity.received();
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, bytes));
        self.activity.sent();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, bytes));
        self.activity.sent();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(watchdog: &Watchdog, ticks: u64) -> u64 {
        watchdog.clock.fetch_add(ticks, Relaxed) + ticks
    }

    #[test]
    fn a_head_has_ten_seconds_however_its_bytes_drip() {
        let watchdog = Watchdog::default();
        let activity = watchdog.activity();
        let now = after(&watchdog, 10);
        activity.received();
        assert!(!activity.overdue(now));
        assert!(activity.overdue(after(&watchdog, 1)));
    }

    #[test]
    fn an_answer_may_take_its_time_and_a_second_head_has_its_own() {
        let watchdog = Watchdog::default();
        let activity = watchdog.activity();
        activity.received();
        activity.request();
        assert!(!activity.overdue(after(&watchdog, 300)));
        activity.answered();
        activity.sent();
        assert!(!activity.overdue(after(&watchdog, 100)), "idle between requests");
        activity.received();
        assert!(!activity.overdue(after(&watchdog, 10)));
        assert!(activity.overdue(after(&watchdog, 1)));
    }

    #[test]
    fn a_connection_without_a_byte_ends() {
        let watchdog = Watchdog::default();
        let activity = watchdog.activity();
        activity.multiplexed();
        assert!(!activity.overdue(after(&watchdog, 310)));
        assert!(activity.overdue(after(&watchdog, 1)));
    }
}
