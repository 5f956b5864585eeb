//! What the bus tells of itself: queues, groups, dead letters, pages of the log.

use std::{sync::Arc, time::Duration};

use events::{Envelope, Filter};
use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

use crate::{Group, Lineages, Mode, OnDead, Queue, Start};

/// A queue: its settings, and its partitions in their order.
#[derive(Clone, Debug)]
pub struct QueueStatus {
    pub settings: Queue,
    pub partitions: Vec<PartitionStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The oldest position that is kept.
    pub floor: u64,
    /// The position that the next event gets.
    pub next: u64,
    /// Of the events that are kept, as they are stored; on Redis, what was published together counts until all of it is
    /// trimmed.
    pub bytes: u64,
    pub lineage: u64,
    /// Events that wait for their time.
    pub scheduled: u64,
    /// The dedupe window holds fewer events than it should, so that it reaches back less far than is set.
    pub dedupe_cut_short: bool,
}

#[derive(Clone, Debug)]
pub struct GroupStatus {
    pub name: String,
    pub filter: Filter,
    pub mode: Mode,
    /// Where it began.
    pub start: Start,
    pub lease: Duration,
    /// None: as long as a handler likes.
    pub max_processing: Option<Duration>,
    pub on_dead: OnDead,
    /// Events behind the head: not delivered, or not settled.
    pub lag: u64,
    /// Leased and unsettled.
    pub in_flight: u64,
    /// Waiting for another attempt.
    pub retrying: u64,
    /// Waiting for their key's turn.
    pub parked: u64,
    pub dead: u64,
    /// Dead letters that keep their key, or their partition, waiting.
    pub blocked: u64,
    /// So much is unsettled that nothing more is claimed.
    pub blocked_by_key: bool,
    /// When the oldest event that is not settled was recorded.
    pub oldest: Option<OffsetDateTime>,
    /// The next position to be looked at, a partition.
    pub next: Vec<u64>,
    /// Events that were dropped before the group had settled them, ever.
    pub lost: u64,
    /// Where they were; of each partition the latest 64 ranges.
    pub lost_ranges: Vec<LostRange>,
    /// When it lost its hold on what it had not settled: nobody had claimed for it for as long as its queue keeps events.
    /// None: it has its hold.
    pub abandoned: Option<OffsetDateTime>,
}

/// Positions that were dropped before a group had settled them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRange {
    pub partition: u32,
    /// The first of them.
    pub from: u64,
    /// The first position after them.
    pub to: u64,
}

impl GroupStatus {
    /// Of a group of which nothing is known yet.
    pub(crate) fn of(group: &Group) -> Self {
        Self {
            name: group.name.clone(),
            filter: group.filter.clone(),
            mode: group.mode,
            start: group.start,
            lease: group.lease,
            max_processing: group.max_processing,
            on_dead: group.on_dead,
            lag: 0,
            in_flight: 0,
            retrying: 0,
            parked: 0,
            dead: 0,
            blocked: 0,
            blocked_by_key: false,
            oldest: None,
            next: Vec::new(),
            lost: 0,
            lost_ranges: Vec::new(),
            abandoned: None,
        }
    }
}

/// Where an event stands with a group; derived from the group's place and its records, never written. Serialized, it is its
/// name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not looked at yet, or ready again.
    Pending,
    Leased {
        /// 1 for the first.
        attempt: u32,
        /// The lease's end, unless it is extended.
        until: OffsetDateTime,
    },
    /// Waits for another attempt.
    Retrying {
        /// The one that comes.
        attempt: u32,
        at: OffsetDateTime,
    },
    /// Waits for its key's turn.
    Parked {
        /// The event of its key whose turn it is.
        behind: u64,
    },
    Acked,
    Dead {
        /// As [`DeadLetter::reason`].
        reason: String,
        at: OffsetDateTime,
    },
    /// Its expiry time came before it was settled.
    Expired,
    /// Dropped before it was settled: its queue was full, or the group was away for too long.
    Lost,
    /// The group's filter doesn't take it.
    Filtered,
    /// Recorded before the place where the group began.
    NotApplicable,
    /// Trimmed, or never recorded: nobody can tell any more.
    Unknown,
}

impl Standing {
    /// What it is called where it is told.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased { .. } => "leased",
            Self::Retrying { .. } => "retrying",
            Self::Parked { .. } => "parked",
            Self::Acked => "acked",
            Self::Dead { .. } => "dead",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Filtered => "filtered",
            Self::NotApplicable => "not_applicable",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the group is still to settle it.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Pending | Self::Leased { .. } | Self::Retrying { .. } | Self::Parked { .. })
    }
}

impl Serialize for Standing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Part of a partition's log.
#[derive(Clone, Debug)]
pub struct Page {
    pub events: Vec<Logged>,
    pub floor: u64,
    /// The position that the next event gets.
    pub next: u64,
    pub lineages: Arc<Lineages>,
}

#[derive(Clone, Debug)]
pub struct Logged {
    pub position: u64,
    pub envelope: Arc<Envelope>,
    /// Of its JSON text.
    pub bytes: usize,
}

/// An event that a group has given up on.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub partition: u32,
    pub position: u64,
    pub envelope: Arc<Envelope>,
    /// `exhausted`, `crash_loop`, or `refused`: the handler said so.
    pub reason: String,
    /// The last error, at most 4 KiB.
    pub error: String,
    pub attempts: u32,
    /// The last failures, oldest first, at most nine.
    pub history: Vec<Failed>,
    pub died: OffsetDateTime,
    /// How often it was redriven before.
    pub redrive: u32,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Milliseconds since 1970.
    pub at: i64,
    /// At most 256 bytes.
    pub error: String,
}

/// Which dead letters of a group, or which of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// By (partition, position).
    These(Vec<(u32, u64)>),
}

impl Which {
    pub(crate) fn names(&self, partition: u32, position: u64) -> bool {
        match self {
            Self::All => true,
            Self::These(places) => places.contains(&(partition, position)),
        }
    }
}

/// What moving a group does, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// Events before the old place that come again.
    pub again: u64,
    /// Events after the old place, and unsettled ones, that are passed over.
    pub skipped: u64,
    /// Leases that are lost.
    pub leases: u64,
}

impl std::ops::AddAssign for Sought {
    fn add_assign(&mut self, other: Self) {
        self.again += other.again;
        self.skipped += other.skipped;
        self.leases += other.leases;
    }
}
