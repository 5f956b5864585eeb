//! Sessions of one process, gone with it.

use std::{collections::BinaryHeap, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Id, Lifetime, Listed, Page, Session, Store};
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

    async fn remove_of(&self, subject: &str, before: SystemTime) -> Result<u64, Error> {
        let mut ids = Vec::new();
        self.0.each(|id, entry| {
            if entry.session.credential.principal.subject == subject && entry.session.opened < before {
                ids.push(*id);
            }
        });
        Ok(ids.iter().filter_map(|id| self.0.remove(id)).count() as u64)
    }

    /// By id, so that nothing that stays is missed between two pages.
    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, Error> {
        let after = after.and_then(|after| URL_SAFE_NO_PAD.decode(after).ok()).unwrap_or_default();
        // The lowest ids, the highest of them on top.
        let mut lowest: BinaryHeap<Id> = BinaryHeap::new();
        self.0.each(|id, _| {
            if id[..] > after[..] {
                lowest.push(*id);
                if lowest.len() > limit {
                    lowest.pop();
                }
            }
        });
        let ids = lowest.into_sorted_vec();
        let next = ids.last().filter(|_| ids.len() == limit).map(|id| URL_SAFE_NO_PAD.encode(id));
        let listed = |id: &Id| {
            self.0.peek(id, |entry| Listed::new(id, &entry.session.credential.principal, entry.session.opened))
        };
        let next = next.filter(|_| ids.len() < self.0.len());
        Ok(Page { sessions: ids.iter().filter_map(listed).collect(), next })
    }
}
