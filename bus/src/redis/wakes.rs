//! Who waits for something to change in a queue or a group, in this process.

use std::{collections::HashMap, hash::Hash};

use events::Name;
use parking_lot::Mutex;
use tokio::sync::watch;

#[derive(Default)]
pub(super) struct Wakes {
    pub(super) appended: Waiting<Name>,
    pub(super) settled: Waiting<Name>,
    pub(super) claimable: Waiting<String>,
}

/// A version each, which rises.
pub(super) struct Waiting<K>(Mutex<HashMap<K, watch::Sender<u64>>>);

impl<K> Default for Waiting<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Waiting<K> {
    pub(super) fn watch(&self, what: &K) -> watch::Receiver<u64> {
        self.0.lock().entry(what.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    pub(super) fn wake(&self, what: &K) {
        if let Some(sender) = self.0.lock().get(what) {
            sender.send_modify(|version| *version += 1);
        }
    }

    pub(super) fn is_watched(&self, what: &K) -> bool {
        self.0.lock().get(what).is_some_and(|sender| sender.receiver_count() > 0)
    }

    /// What somebody waits for now; what nobody does any more is forgotten.
    pub(super) fn watched(&self) -> Vec<K> {
        let mut waiting = self.0.lock();
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        waiting.keys().cloned().collect()
    }
}
