//! Who waits for something to change in a queue or a group, in this process.

use std::{collections::HashMap, hash::Hash};

use events::Name;
use parking_lot::Mutex;
use tokio::sync::watch;

#[derive(Default)]
pub(crate) struct Wakes {
    pub(crate) appended: Waiting<Name>,
    pub(crate) settled: Waiting<Name>,
    pub(crate) claimable: Waiting<String>,
}

/// A version each, which rises.
pub(crate) struct Waiting<K>(Mutex<HashMap<K, watch::Sender<u64>>>);

impl<K> Default for Waiting<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Waiting<K> {
    pub(crate) fn watch(&self, what: &K) -> watch::Receiver<u64> {
        self.0.lock().entry(what.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    pub(crate) fn wake(&self, what: &K) {
        if let Some(sender) = self.0.lock().get(what) {
            sender.send_modify(|version| *version += 1);
        }
    }

    pub(crate) fn is_watched(&self, what: &K) -> bool {
        self.0.lock().get(what).is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// What somebody waits for now; what nobody does any more is forgotten, so whoever keeps one asks now and then.
    pub(crate) fn watched(&self) -> Vec<K> {
        let mut waiting = self.0.lock();
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        waiting.keys().cloned().collect()
    }
}

impl Wakes {
    /// Forgets what nobody waits for any more.
    pub(crate) fn forget(&self) {
        self.appended.watched();
        self.settled.watched();
        self.claimable.watched();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_any_more_is_forgotten() {
        let waiting = Waiting::default();
        let kept = waiting.watch(&0);
        (1..100).for_each(|name| drop(waiting.watch(&name)));
        assert_eq!(waiting.watched(), [0]);
        assert_eq!(waiting.0.lock().len(), 1);
        waiting.wake(&0);
        assert!(kept.has_changed().unwrap());
    }
}
