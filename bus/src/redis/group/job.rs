//! What a keeper is asked, and what it answers.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::oneshot;

use crate::{Claimed, Error, LeaseLost, Settlement, Sought, Standing, Start, Which, ledger::Lost};

pub(super) enum Ask {
    Claim(Want),
    /// All of this partition.
    Settle(Vec<Settlement>),
    Look,
    Standing(u64),
    /// Those of these positions that are dead letters; the first of them comes after `pause` milliseconds.
    Redrive {
        positions: Vec<u64>,
        pause: i64,
    },
    Discard(Vec<u64>),
    Hurry {
        partition: u32,
        which: Arc<Which>,
    },
    Seek {
        to: Start,
        dry_run: bool,
    },
    /// Forgets letters that were kept long enough.
    Forget,
}

/// What a claim wants of a partition.
#[derive(Clone)]
pub(super) struct Want {
    pub(super) member: Arc<str>,
    pub(super) events: usize,
    pub(super) bytes: usize,
}

pub(super) enum Answer {
    /// `bytes`: what is left of what was wanted. `at_end`: more would have been taken.
    Claimed {
        claimed: Claimed,
        bytes: usize,
        at_end: bool,
    },
    Settled(Vec<Result<(), LeaseLost>>),
    Looked(Looked),
    Standing {
        position: u64,
        standing: Standing,
    },
    Count(u64),
    Sought(Sought),
    Done,
}

/// How a group stands in a partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Looked {
    pub(super) lag: u64,
    pub(super) in_flight: u64,
    pub(super) retrying: u64,
    pub(super) parked: u64,
    pub(super) dead: u64,
    /// Dead letters that block.
    pub(super) blocked: u64,
    pub(super) full: bool,
    pub(super) oldest: Option<OffsetDateTime>,
    pub(super) next: u64,
    pub(super) lost: Lost,
    pub(super) abandoned: Option<OffsetDateTime>,
}

pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) reply: oneshot::Sender<Result<Answer, Error>>,
}

impl Ask {
    /// A member asks: the group isn't abandoned.
    pub(super) fn is_a_member_s(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::Settle(_))
    }
}

impl Job {
    /// Done alone: what it works with is read from Redis, and must not be in a draft.
    pub(super) fn is_apart(&self) -> bool {
        matches!(self.ask, Ask::Redrive { .. } | Ask::Discard(_) | Ask::Seek { .. } | Ask::Forget)
    }
}
