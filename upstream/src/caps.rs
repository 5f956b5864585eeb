//! The most of everything that an upstream is given at once, all cores together: connections, requests that wait for one,
//! requests under way. One more is refused at once; nothing queues.
//!
//! Connections and waiting are rare enough for one counter. Requests aren't: each core draws permits by the handful and
//! keeps some for its next requests, so that counting touches no memory that cores share. There are never more permits than
//! allowed, and a request is refused only when no core has one to spare.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    ConfigError,
    error::{Cap, Cause, Failure},
};

/// What an upstream is given at most, all cores together; 1 to 1,000,000 each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Open connections; default 1024.
    pub connections: u32,
    /// Requests that wait for a connection, or for a stream on one; default 1024.
    pub pending: u32,
    /// Requests under way until the last byte of their answers; a retry or a hedge is one more. Default 1024.
    pub requests: u32,
}

impl Default for Caps {
    fn default() -> Self {
        Self { connections: 1024, pending: 1024, requests: 1024 }
    }
}

impl Caps {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        for (key, cap) in [("connections", self.connections), ("pending", self.pending), ("requests", self.requests)] {
            if !(1..=1_000_000).contains(&cap) {
                let message = "must be within 1 to 1000000".to_owned();
                return Err(ConfigError { path: format!("caps.{key}"), message });
            }
        }
        Ok(())
    }
}

/// Permits that a core draws at once.
const HANDFUL: usize = 16;

/// What all cores together may have.
pub(crate) struct Limits {
    connections: Arc<Semaphore>,
    pending: Arc<Semaphore>,
    requests: Arc<Requests>,
}

/// Permits for requests.
struct Requests {
    /// Those that no core has.
    free: AtomicUsize,
    handful: usize,
    shares: Mutex<Vec<Weak<Share>>>,
}

/// One core's permits that it doesn't need just now.
pub(crate) struct Share {
    requests: Arc<Requests>,
    spare: AtomicUsize,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(&Caps::default())
    }
}

impl Limits {
    pub fn new(caps: &Caps) -> Self {
        let semaphore = |permits: u32| Arc::new(Semaphore::new(permits as usize));
        let requests = caps.requests as usize;
        let handful = (requests / 64).clamp(1, HANDFUL);
        let requests = Requests { free: AtomicUsize::new(requests), handful, shares: Mutex::default() };
        Self {
            connections: semaphore(caps.connections),
            pending: semaphore(caps.pending),
            requests: Arc::new(requests),
        }
    }

    /// A place among the connections, to be held as long as one is open.
    pub fn connect(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = Arc::clone(&self.connections).try_acquire_owned();
        permit.map_err(|_| Failure::new(Cause::Limit(Cap::Connections), "too many connections are open"))
    }

    /// A place among the requests that wait for a connection. Held while one waits.
    pub fn wait(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let permit = Arc::clone(&self.pending).try_acquire_owned();
        permit.map_err(|_| Failure::new(Cause::Limit(Cap::Pending), "too many requests wait for a connection"))
    }

    /// What a core takes its permits from.
    pub fn share(&self) -> Arc<Share> {
        let share = Arc::new(Share { requests: Arc::clone(&self.requests), spare: AtomicUsize::new(0) });
        let mut shares = self.requests.shares.lock();
        shares.retain(|share| share.strong_count() > 0);
        shares.push(Arc::downgrade(&share));
        share
    }
}

impl Share {
    /// A place among the requests under way, until it is given back.
    pub fn take(&self) -> Result<(), Failure> {
        if take_one(&self.spare) {
            return Ok(());
        }
        let drawn = self.requests.draw();
        if drawn > 0 {
            self.spare.fetch_add(drawn - 1, Relaxed);
            return Ok(());
        }
        if self.requests.take_from_others() {
            return Ok(());
        }
        Err(Failure::new(Cause::Limit(Cap::Requests), "too many requests are under way"))
    }

    pub fn give_back(&self) {
        let handful = self.requests.handful;
        if self.spare.fetch_add(1, Relaxed) >= 2 * handful
            && self.spare.fetch_update(Relaxed, Relaxed, |spare| spare.checked_sub(handful)).is_ok()
        {
            self.requests.free.fetch_add(handful, Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.requests.free.fetch_add(*self.spare.get_mut(), Relaxed);
    }
}

impl Requests {
    fn draw(&self) -> usize {
        let handful = self.handful;
        let before = self.free.fetch_update(Relaxed, Relaxed, |free| (free > 0).then(|| free.saturating_sub(handful)));
        before.map_or(0, |before| before.min(handful))
    }

    fn take_from_others(&self) -> bool {
        let shares = self.shares.lock();
        shares.iter().filter_map(Weak::upgrade).any(|share| take_one(&share.spare))
    }
}

fn take_one(spare: &AtomicUsize) -> bool {
    // A load first: where there is none, nothing is written.
    spare.load(Relaxed) > 0 && spare.fetch_update(Relaxed, Relaxed, |spare| spare.checked_sub(1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: u32) -> Limits {
        Limits::new(&Caps { requests, ..Caps::default() })
    }

    #[test]
    fn one_request_too_many_is_refused_and_none_too_few() {
        for most in [1, 2, 17, 100, 1024] {
            let limits = limits(most);
            let shares: Vec<_> = (0..8).map(|_| limits.share()).collect();
            // Each core has some to spare; all of them can be had.
            for share in &shares {
                share.take().unwrap();
                share.give_back();
            }
            let taken = (0..2 * most as usize).filter(|n| shares[n % 8].take().is_ok()).count();
            assert_eq!(taken, most as usize);
            assert_eq!(shares[0].take().unwrap_err().cause, Cause::Limit(Cap::Requests));
            shares[3].give_back();
            assert!(shares[0].take().is_ok(), "whoever gave it back");
        }
    }

    #[test]
    fn what_a_core_has_to_spare_outlives_it() {
        let limits = limits(32);
        let share = limits.share();
        share.take().unwrap();
        share.give_back();
        drop(share);
        let share = limits.share();
        assert_eq!((0..64).filter(|_| share.take().is_ok()).count(), 32);
    }

    #[test]
    fn many_threads_never_have_more_than_there_are() {
        let limits = Arc::new(limits(40));
        let under_way = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (share, under_way) = (limits.share(), Arc::clone(&under_way));
                std::thread::spawn(move || {
                    for round in 0..20_000 {
                        let taken = (0..round % 20).filter(|_| share.take().is_ok()).count();
                        assert!(under_way.fetch_add(taken, Relaxed) + taken <= 40);
                        under_way.fetch_sub(taken, Relaxed);
                        (0..taken).for_each(|_| share.give_back());
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let share = limits.share();
        assert_eq!((0..80).filter(|_| share.take().is_ok()).count(), 40, "nothing was lost");
    }

    #[test]
    fn waiting_and_connections_have_bounds_of_their_own() {
        let limits = Limits::new(&Caps { connections: 1, pending: 2, ..Caps::default() });
        let waiting = [limits.wait().unwrap(), limits.wait().unwrap()];
        assert_eq!(limits.wait().unwrap_err().cause, Cause::Limit(Cap::Pending));
        drop(waiting);
        assert!(limits.wait().is_ok());
        let open = limits.connect().unwrap();
        assert_eq!(limits.connect().unwrap_err().cause, Cause::Limit(Cap::Connections));
        drop(open);
        assert!(limits.connect().is_ok());
    }
}
