//! Whether purges are heard of. While the bus is away nobody knows what has changed: then an answer that events purge is
//! given for so long and no longer, counted from when it was fetched or from when the bus was last heard, whichever is
//! later.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Moment;

pub struct Following {
    begin: Instant,
    /// Since when nothing was heard, in milliseconds from the beginning, plus 1; 0: all is heard.
    deaf: AtomicU64,
    /// How long answers are given nonetheless, in milliseconds.
    trust: AtomicU64,
    standing: Mutex<Standing>,
}

/// What operators see.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Standing {
    /// The queues that purges come by; none: only operators purge.
    pub queues: Vec<String>,
    /// Whether all of them are heard.
    pub following: bool,
    /// Events that something was purged for.
    pub events: u64,
    /// How often events were missing, so that everything was purged.
    pub gaps: u64,
    pub error: Option<String>,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            deaf: AtomicU64::new(0),
            trust: AtomicU64::new(u64::MAX),
            standing: Mutex::default(),
        }
    }
}

impl Following {
    /// Nothing is heard yet; answers are given for so long until it is.
    pub fn begin(&self, queues: Vec<String>, trust: Duration) {
        self.trust.store(millis(trust), Relaxed);
        self.deaf.store(millis(self.begin.elapsed()) + 1, Relaxed);
        self.note(|standing| standing.queues = queues);
    }

    pub fn heard(&self) {
        self.deaf.store(0, Relaxed);
        self.note(|standing| (standing.following, standing.error) = (true, None));
    }

    pub fn lost(&self, error: &str) {
        let now = millis(self.begin.elapsed()) + 1;
        // It is since the first time that nothing is heard.
        _ = self.deaf.compare_exchange(0, now, Relaxed, Relaxed);
        self.note(|standing| (standing.following, standing.error) = (false, Some(error.to_owned())));
    }

    pub fn note(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing.lock());
    }

    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// Whether what was fetched then can still be given.
    pub fn vouches_for(&self, fetched: Moment, now: Moment) -> bool {
        let Some(deaf) = self.deaf.load(Relaxed).checked_sub(1) else { return true };
        let since = (self.begin + Duration::from_millis(deaf)).max(fetched.steady);
        millis(now.steady.saturating_duration_since(since)) <= self.trust.load(Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_nothing_is_heard_answers_are_given_for_so_long() {
        let (following, now) = (Following::default(), Moment::now());
        let (later, much_later) = (now.plus(Duration::from_secs(29)), now.plus(Duration::from_secs(31)));
        assert!(following.vouches_for(now, much_later), "nobody is to be heard");
        following.begin(vec!["DB".to_owned()], Duration::from_secs(30));
        assert!(following.vouches_for(now, later) && !following.vouches_for(now, much_later));
        assert!(following.vouches_for(later, much_later), "it was fetched since");
        following.heard();
        assert!(following.vouches_for(now, much_later));
        following.lost("gone");
        assert!(!following.vouches_for(now, much_later) && !following.standing().following);
    }
}
