//! Why a call on the bus as a whole failed, and why one event of a publish was refused.

use std::time::Duration;

use events::Name;

/// A call failed as a whole.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The caller's fault; the text names the field.
    #[error("{0}")]
    Invalid(String),
    #[error("no group {0:?}")]
    NoGroup(String),
    #[error("no queue {0:?}")]
    NoQueue(String),
    /// It contradicts what stands: partitions of a queue with events, a group on another queue.
    #[error("{0}")]
    Conflict(String),
    /// A level of confirmation that this bus can't give: nothing was recorded. Less is given where
    /// [`crate::PublishOptions::allow_degraded`] says that it will do.
    #[error("confirm: {0}")]
    NotGiven(String),
    /// The backend can't at the moment; the call may be made again.
    #[error("the bus is away: {0}")]
    Unavailable(String),
}

impl Error {
    pub(crate) fn not_latest(queue: &Name) -> Self {
        Self::Invalid(format!("latest: the queue {queue} doesn't keep each key's last event"))
    }
}

/// Why an event was not recorded. Nothing of the same queue and partition in the same publish was recorded either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text names the attribute.
    #[error("{0}")]
    Invalid(String),
    #[error("{bytes} bytes, {limit} allowed")]
    TooLarge { bytes: usize, limit: usize },
    /// The partition's lineage is not the expected one: what was recorded in that one after the cut is lost and must be
    /// sent again. `None`: the queue holds nothing at all.
    #[error("the lineage is {current:?} now")]
    LineageChanged { current: Option<u64> },
    /// The producer's number leaves a gap: this is the next one.
    #[error("the publish number {expected} is next")]
    OutOfSequence { expected: u64 },
    /// A numbered publish whose events don't all fall into one queue and partition.
    #[error("the events fall into several partitions")]
    SeveralPartitions,
    /// The queue holds as much as it may, and a group still needs the oldest of it. May be tried again, not before this.
    #[error("the queue is full")]
    Full { retry_after: Duration },
    /// The key's last event is another one than the event expects: the one at this position; 0: the key has none.
    #[error("the key's last event is at {current} now")]
    VersionConflict { current: u64 },
    /// Somebody else has the lease that this publish was made under, by this number: see [`crate::Bus::lead`].
    #[error("the lease is somebody else's by now: number {current}")]
    Fenced { current: u64 },
    /// So many events of the partition wait for their time that it takes no more of them.
    #[error("{limit} events of the partition wait for their time already")]
    Waiting { limit: usize },
    /// Another event of the same batch and partition was refused.
    #[error("another event of the batch was refused")]
    Batch,
}

/// The lease is over, or was never this one: the delivery belongs to somebody else now, or is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is lost")]
pub struct LeaseLost;
