//! An unsettled event of a group.

use std::sync::Arc;

use crate::Failed;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Can be leased.
    Ready,
    Leased {
        secret: u64,
        member: Arc<str>,
        /// Milliseconds since 1970.
        until: i64,
    },
    /// Can be leased from `at` on.
    Retrying { at: i64 },
    /// Waits for its key's turn.
    Parked,
    /// A dead letter that blocks its key, or the partition of an exclusive group, until it is redriven or discarded. What
    /// its attempts were is in the letter.
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) state: State,
    /// The hash of the event's key.
    pub(crate) key: u64,
    /// Attempts that failed.
    pub(crate) failures: u32,
    /// Of those, leases that ended while the member held nothing else.
    pub(crate) expiries: u32,
    /// It is leased alone until a handler has lived through it.
    pub(crate) suspect: bool,
    /// Milliseconds since 1970; 0 before the first delivery.
    pub(crate) first_delivered: i64,
    pub(crate) redrive: u32,
    /// The last failures, oldest first.
    pub(crate) history: Vec<Failed>,
}

impl Record {
    pub(crate) fn new(key: u64) -> Self {
        Self {
            state: State::Ready,
            key,
            failures: 0,
            expiries: 0,
            suspect: false,
            first_delivered: 0,
            redrive: 0,
            history: Vec::new(),
        }
    }
}

/// What became of a delivery that was settled, or whose lease ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Acked,
    Extended,
    /// Can be leased again at once, uncharged.
    Released,
    Retrying,
    /// Comes again later, uncharged.
    Deferred,
    /// What it was goes to the dead letters.
    Dead {
        reason: &'static str,
        error: String,
        record: Record,
    },
}
