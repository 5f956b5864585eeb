//! What handles on the same database share within a process: the news that something was appended, and SQLite's turn
//! to write.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
};

use tokio::sync::watch;

static SIGNALS: LazyLock<Mutex<HashMap<String, Weak<Signal>>>> = LazyLock::new(Mutex::default);

pub(crate) struct Signal {
    appended: watch::Sender<()>,
    /// SQLite has one writer. Its own wait for the lock polls and is unfair, so writers of one process queue here.
    pub writer: Arc<tokio::sync::Mutex<()>>,
}

impl Signal {
    /// The signal of the database that `key` names; the same for every handle on it.
    pub fn of(key: &str) -> Arc<Self> {
        let mut signals = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signal) = signals.get(key).and_then(Weak::upgrade) {
            return signal;
        }
        signals.retain(|_, signal| signal.strong_count() > 0);
        let signal = Arc::new(Self { appended: watch::Sender::new(()), writer: Arc::default() });
        signals.insert(key.to_owned(), Arc::downgrade(&signal));
        signal
    }

    pub fn announce(&self) {
        self.appended.send_replace(());
    }

    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.appended.subscribe()
    }
}
