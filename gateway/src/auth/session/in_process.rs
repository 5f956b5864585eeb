//! Sessions of one process, gone with it.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;

use super::{Id, Lifetime, Session, Store};
use crate::{error::Error, recent::Recent};

/// The most sessions that are kept; the one idle for longest goes first.
const SESSIONS: usize = 100_000;

pub struct InProcess(Recent<Id, Entry>);

struct Entry {
    session: Arc<Session>,
    used: SystemTime,
}

impl Default for InProcess {
    fn default() -> Self {
        Self(Recent::new(SESSIONS))
    }
}

#[async_trait]
impl Store for InProcess {
    async fn put(&self, id: Id, session: Session, _: Lifetime) -> Result<(), Error> {
        let used = session.opened;
        self.0.insert(id, Entry { session: Arc::new(session), used });
        Ok(())
    }

    async fn touch(&self, id: &Id, now: SystemTime, lifetime: Lifetime) -> Result<Option<Arc<Session>>, Error> {
        let found = self.0.get(id, |entry| {
            let idle = now.duration_since(entry.used).unwrap_or_default();
            let lives = idle < lifetime.idle && entry.session.lives(now, lifetime);
            entry.used = now.max(entry.used);
            lives.then(|| Arc::clone(&entry.session))
        });
        if let Some(None) = found {
            self.0.remove(id);
        }
        Ok(found.flatten())
    }

    async fn remove(&self, id: &Id) -> Result<(), Error> {
        self.0.remove(id);
        Ok(())
    }
}
