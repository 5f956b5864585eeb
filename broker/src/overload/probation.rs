//! Sockets that came while there was too much, and have yet to show that they may stay: who calls, in the first frame, and where
//! there is still more, that they come back, by following something from a cursor.
//!
//! Of those whom nobody knows yet so many are heard at once as don't matter, and not for long.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many that are not known yet are heard at once.
pub(super) const MOST: usize = 256;
/// How long each of them has for its first frame.
pub(crate) const HEARING: Duration = Duration::from_secs(3);

/// Who is being heard. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Hearing(Arc<Semaphore>);

/// A socket has to show something yet; dropped, it hasn't any more.
#[derive(Debug)]
pub(crate) struct Probation {
    _unknown: Option<OwnedSemaphorePermit>,
}

impl Default for Hearing {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

impl Hearing {
    /// Hears one more that isn't known; None: there are as many as may be.
    pub(super) fn begin(&self) -> Option<Probation> {
        let place = self.0.clone().try_acquire_owned().ok()?;
        Some(Probation { _unknown: Some(place) })
    }
}

impl Probation {
    /// Of one that is known.
    pub(super) fn heard() -> Self {
        Self { _unknown: None }
    }
}
