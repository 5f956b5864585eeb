//! Queues, groups and dead letters as they are told: in answers of the broker, and by whoever reads the bus itself. The
//! names of the fields are promised.

use std::collections::BTreeMap;

use bus::{DeadLetter, GroupStatus, LostRange, Mode, OnDead, Overflow, QueueStatus, Scheduled, Start};
use events::Name;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{cursor::Cursor, duration};

/// A place in one queue, as clients are told it.
pub fn cursor_text(queue: &Name, cursor: &bus::Cursor) -> String {
    Cursor(BTreeMap::from([(queue.clone(), cursor.clone())])).to_string()
}

/// The place in this queue that a client's cursor names; None: it is no cursor, or of other queues.
pub fn read_cursor(text: &str, queue: &Name) -> Option<bus::Cursor> {
    text.parse::<Cursor>().ok()?.0.remove(queue)
}

/// A queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueueView {
    pub name: String,
    /// How long an event is kept, unless a group still needs it: `7d`.
    pub max_age: String,
    /// The most bytes and events a partition keeps; absent: no limit.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    #[serde(default)]
    pub max_len: Option<u64>,
    /// `reject`, `drop_oldest`.
    #[serde(default)]
    pub overflow: Overflow,
    /// How long an event that is published again is known to be there: `2h`.
    #[serde(default)]
    pub dedupe: String,
    /// Each key's last event is known.
    #[serde(default)]
    pub latest: bool,
    /// A replay passes over its events.
    #[serde(default)]
    pub realtime: bool,
    /// What clients publish survives a flush.
    #[serde(default)]
    pub journal: bool,
    /// How many events it holds.
    pub events: u64,
    /// Their bytes, as they are stored.
    #[serde(default)]
    pub bytes: u64,
    pub partitions: Vec<PartitionView>,
}

/// A queue's partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartitionView {
    pub partition: u32,
    /// The oldest position that is kept.
    pub floor: u64,
    /// The position that the next event gets.
    pub next: u64,
    #[serde(default)]
    pub bytes: u64,
    /// In hexadecimal: JSON's numbers are too short in many a program.
    pub lineage: String,
    /// Events that wait for their time.
    #[serde(default)]
    pub scheduled: u64,
    /// The dedupe window reaches back less far than is set.
    pub dedupe_cut_short: bool,
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupView {
    pub name: String,
    pub queue: String,
    /// As in `DB/*`.
    pub filter: String,
    /// `parallel`, `keyed`, `exclusive`.
    pub mode: String,
    /// Where it began: `earliest`, `latest`, `{"time": …}`, `{"position": …}`.
    #[serde(default)]
    pub start: Start,
    /// How long an event is lent: `30s`.
    #[serde(default)]
    pub lease: String,
    /// The longest handling: `15m`, or `none`.
    #[serde(default)]
    pub max_processing: String,
    /// What a dead letter does to what comes after it: `continue`, `block`.
    #[serde(default)]
    pub on_dead: OnDead,
    /// Events behind the head: not delivered, or not settled.
    pub lag: u64,
    pub in_flight: u64,
    pub retrying: u64,
    pub parked: u64,
    pub dead: u64,
    /// Dead letters that keep their key, or their partition, waiting.
    #[serde(default)]
    pub blocked: u64,
    pub blocked_by_key: bool,
    /// When the oldest event that is not settled was recorded.
    #[serde(with = "time::serde::rfc3339::option")]
    pub oldest: Option<OffsetDateTime>,
    /// The next position to be looked at, a partition.
    pub next: Vec<u64>,
    /// Events that were dropped before it had settled them.
    #[serde(default)]
    pub lost: u64,
    /// Where they were; of each partition the latest 64 ranges.
    #[serde(default)]
    pub lost_ranges: Vec<LostRange>,
    /// When it lost its hold on what it had not settled, since nobody claimed for it.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub abandoned: Option<OffsetDateTime>,
    /// How many consumers work for it.
    pub members: usize,
}

/// An event that waits for its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduledView {
    pub partition: u32,
    #[serde(with = "time::serde::rfc3339")]
    pub due: OffsetDateTime,
    pub event: serde_json::Value,
}

impl From<&Scheduled> for ScheduledView {
    fn from(scheduled: &Scheduled) -> Self {
        let event = serde_json::to_value(&*scheduled.envelope).unwrap_or_default();
        Self { partition: scheduled.turn.partition, due: scheduled.due, event }
    }
}

/// A dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LetterView {
    pub partition: u32,
    pub position: u64,
    /// `exhausted`, `crash_loop`, `refused`.
    pub reason: String,
    pub error: String,
    pub attempts: u32,
    pub history: Vec<AttemptView>,
    #[serde(with = "time::serde::rfc3339")]
    pub died: OffsetDateTime,
    /// How often it was redriven before.
    pub redrive: u32,
    pub event: serde_json::Value,
}

/// A failed attempt at a dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptView {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub error: String,
}

impl From<QueueStatus> for QueueView {
    fn from(status: QueueStatus) -> Self {
        let partitions = (0..).zip(status.partitions).map(|(partition, status)| PartitionView {
            partition,
            floor: status.floor,
            next: status.next,
            bytes: status.bytes,
            lineage: format!("{:016x}", status.lineage),
            scheduled: status.scheduled,
            dedupe_cut_short: status.dedupe_cut_short,
        });
        let partitions: Vec<PartitionView> = partitions.collect();
        let settings = status.settings;
        Self {
            name: settings.name.to_string(),
            max_age: duration::text(settings.max_age),
            max_bytes: settings.max_bytes,
            max_len: settings.max_len,
            overflow: settings.overflow,
            dedupe: duration::text(settings.dedupe),
            latest: settings.latest,
            realtime: settings.realtime,
            journal: settings.journal,
            events: partitions.iter().map(|partition| partition.next.saturating_sub(partition.floor)).sum(),
            bytes: partitions.iter().map(|partition| partition.bytes).sum(),
            partitions,
        }
    }
}

impl GroupView {
    /// A group with so many members.
    pub fn new(status: GroupStatus, members: usize) -> Self {
        let mode = match status.mode {
            Mode::Parallel => "parallel",
            Mode::Keyed => "keyed",
            Mode::Exclusive => "exclusive",
        };
        Self {
            name: status.name,
            queue: status.filter.queue.to_string(),
            filter: status.filter.to_string(),
            mode: mode.to_owned(),
            start: status.start,
            lease: duration::text(status.lease),
            max_processing: status.max_processing.map_or_else(|| "none".to_owned(), duration::text),
            on_dead: status.on_dead,
            lag: status.lag,
            in_flight: status.in_flight,
            retrying: status.retrying,
            parked: status.parked,
            dead: status.dead,
            blocked: status.blocked,
            blocked_by_key: status.blocked_by_key,
            oldest: status.oldest,
            next: status.next,
            lost: status.lost,
            lost_ranges: status.lost_ranges,
            abandoned: status.abandoned,
            members,
        }
    }
}

impl From<DeadLetter> for LetterView {
    fn from(letter: DeadLetter) -> Self {
        let moment = |millis: i64| OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok();
        let history = letter.history.into_iter();
        Self {
            partition: letter.partition,
            position: letter.position,
            reason: letter.reason,
            error: letter.error,
            attempts: letter.attempts,
            history: history
                .filter_map(|failed| Some(AttemptView { at: moment(failed.at)?, error: failed.error }))
                .collect(),
            died: letter.died,
            redrive: letter.redrive,
            event: serde_json::to_value(&*letter.envelope).unwrap_or_default(),
        }
    }
}
