use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::admission::Seat;
use crate::metrics::METRICS;

/// An open connection. It lives as long as the socket, also where that has become a WebSocket: so long it counts, and so
/// long the drain waits for it.
pub struct Open {
    counter: Arc<AtomicUsize>,
    _awaited: TaskTrackerToken,
    _seat: Option<Seat>,
}

impl Open {
    /// None if as many are open as may be.
    pub fn admit(
        counter: &Arc<AtomicUsize>,
        most: usize,
        seat: Option<Seat>,
        connections: &TaskTracker,
    ) -> Option<Self> {
        if counter.fetch_add(1, Relaxed) >= most {
            counter.fetch_sub(1, Relaxed);
            METRICS.connection_refused("listener");
            return None;
        }
        METRICS.connection_opened();
        Some(Self { counter: Arc::clone(counter), _awaited: connections.token(), _seat: seat })
    }
}

impl Open {
    /// It is another client's whose connection this is than it seemed.
    pub fn take_seat(&mut self, seat: Option<Seat>) {
        self._seat = seat;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        METRICS.connection_closed();
        self.counter.fetch_sub(1, Relaxed);
    }
}
