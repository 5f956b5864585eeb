//! An answer as it is kept, and all that is kept of one target.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    Freshness, Moment,
    marks::{Mark, Stamp},
    vary::Selected,
};

/// What an answer takes up beside its bytes, about.
const OVERHEAD: usize = 400;
/// The same for each field of its header.
const FIELD: usize = 96;

/// An answer that is kept.
#[derive(Debug)]
pub struct Stored {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub freshness: Freshness,
    /// For which requests.
    pub selected: Selected,
    /// From before it was fetched.
    pub stamp: Stamp,
    /// What purges it: its target and its tags.
    pub marks: Box<[Mark]>,
    /// Events purge it: it is only as good as they come.
    pub by_events: bool,
}

impl Stored {
    /// How many bytes it takes up, about.
    pub fn weight(&self) -> usize {
        let header: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD).sum();
        OVERHEAD + header + self.body.len() + self.selected.weight() + size_of_val(&*self.marks)
    }
}

/// What is kept of one target, for one kind of caller.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// The latest last.
    pub variants: Vec<Arc<Stored>>,
    /// Until then its answers are not waited for: they were none to keep.
    pub passes: Option<Moment>,
}

impl Resource {
    pub fn weight(&self) -> usize {
        OVERHEAD + self.variants.iter().map(|stored| stored.weight()).sum::<usize>()
    }

    /// Whether its answers are better not waited for.
    pub fn passes(&self, now: Moment) -> bool {
        self.passes.is_some_and(|until| now.steady < until.steady)
    }
}
