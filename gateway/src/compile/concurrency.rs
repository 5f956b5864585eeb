//! Limits on requests under way, one for each section. One that stands where it stood, unchanged, goes on counting.

use std::sync::Arc;

use crate::{
    limit::{Concurrency, ConcurrencyConfig},
    snapshot::Snapshot,
};

pub struct Concurrencies<'a> {
    previous: &'a [Arc<Concurrency>],
    /// With where in memory the section stands that each was made from: routes of a service have theirs in common.
    made: Vec<(usize, Arc<Concurrency>)>,
}

impl<'a> Concurrencies<'a> {
    pub fn new(previous: Option<&'a Snapshot>) -> Self {
        Self { previous: previous.map_or(&[], |snapshot| &snapshot.concurrency), made: Vec::new() }
    }

    /// The limit of a section.
    pub fn of(&mut self, config: &ConcurrencyConfig) -> Arc<Concurrency> {
        let section = std::ptr::from_ref(config).addr();
        if let Some((_, known)) = self.made.iter().find(|(made, _)| *made == section) {
            return Arc::clone(known);
        }
        let kept = self.previous.get(self.made.len()).filter(|limit| limit.config == *config);
        let limit = kept.cloned().unwrap_or_else(|| Arc::new(Concurrency::new(config)));
        self.made.push((section, Arc::clone(&limit)));
        limit
    }

    pub fn done(self) -> Vec<Arc<Concurrency>> {
        self.made.into_iter().map(|(_, limit)| limit).collect()
    }
}
