//! What happened, as seen from outside: every call when it was made and when it was answered, every delivery, every
//! frame of a reader, every fault. A checker needs nothing else, and a person can read it.

mod file;
mod record;

use serde::{Deserialize, Serialize};

pub use record::History;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since the history began; never falls.
    pub at: u64,
    #[serde(flatten)]
    pub what: What,
}

/// Joins an answer to its question.
pub type Op = u64;

/// Where an event lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub queue: String,
    pub partition: u32,
    pub position: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// What runs.
    Case {
        name: String,
        backend: String,
        seed: u64,
    },
    /// A group is declared. Its members handle by [`What::Handled`] where `effects` is true.
    Group {
        name: String,
        queue: String,
        filter: Filter,
        mode: Mode,
        lease_ms: u64,
        begins: Begins,
        effects: bool,
    },

    PublishAsked {
        op: Op,
        publisher: String,
        level: Level,
        sent: Vec<Sent>,
    },
    PublishAnswered {
        op: Op,
        answers: Vec<Answer>,
    },
    /// Nobody knows whether it was recorded.
    PublishFailed {
        op: Op,
        error: String,
    },
    /// A publish for later is called off; whether it still could be. None: nobody knows.
    Cancelled {
        queue: String,
        id: String,
        done: Option<bool>,
    },

    ClaimAsked {
        op: Op,
        group: String,
        member: String,
    },
    /// One of the deliveries that a claim got.
    Delivered {
        op: Op,
        group: String,
        member: String,
        event: Seen,
        token: String,
        attempt: u32,
        redrive: u32,
    },
    /// Nobody knows whether something was leased.
    ClaimFailed {
        op: Op,
        error: String,
    },

    SettleAsked {
        op: Op,
        group: String,
        token: String,
        verb: Verb,
    },
    SettleAnswered {
        op: Op,
        settled: Settled,
    },

    /// What a handler did, or what its inbox let through.
    Handled {
        group: String,
        member: String,
        event: Seen,
        attempt: u32,
        did: Did,
    },

    /// A request came to an endpoint of webhooks.
    Posted {
        op: Op,
        /// Its group.
        endpoint: String,
        id: String,
        /// Which of the endpoint's keys signed it; 0 is the first that it had.
        keys: Vec<u32>,
        /// Seconds from the time that it was signed with to that of the clock.
        age_s: i64,
        /// Microseconds since the history began, by the clock of those who deliver.
        clock: u64,
    },
    /// What it was answered.
    Replied {
        op: Op,
        status: u16,
        /// When the endpoint wants to be asked again, where it says so.
        retry_after_s: Option<u64>,
        clock: u64,
    },
    /// An endpoint's key has given way to the next one.
    Rotated {
        endpoint: String,
        clock: u64,
    },

    /// A reader begins.
    Follows {
        reader: String,
        queue: String,
        filter: Filter,
        begins: Begins,
    },
    Frame {
        reader: String,
        partition: u32,
        frame: Frame,
        /// Of a client's: where it says that it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<Link>,
    },

    /// A connection of a user is there. It is written once the broker has said so.
    Comes {
        user: String,
        connection: String,
    },
    /// It goes: cut, or with a word. It is written before that happens.
    Goes {
        user: String,
        connection: String,
        bye: bool,
    },

    /// An operator's hand: it has happened when this is written.
    Operated {
        group: String,
        action: Action,
    },

    /// Somebody or something breaks.
    Harmed {
        by: String,
        harm: Harm,
    },
    /// It is whole again.
    Healed {
        by: String,
    },

    /// Nothing more is published or broken from here on; everybody settles what is left.
    Rest,

    // The audit, after everything has come to rest.
    /// What a partition holds.
    Head {
        queue: String,
        partition: u32,
        floor: u64,
        next: u64,
    },
    Logged {
        event: Seen,
    },
    Stands {
        group: String,
        event: Seen,
        standing: String,
    },
    Letter {
        group: String,
        event: Seen,
        reason: String,
        attempts: u32,
    },
    /// What a publisher who asked for it was told in the end.
    Receipt {
        of: String,
        says: String,
    },
    /// Something that must come back to where it was: memory, descriptors, keys.
    Level {
        of: String,
        before: u64,
        after: u64,
        slack: u64,
    },
    /// A metric that names what broke, in one of the processes, at first and in the end.
    Metric {
        of: String,
        before: f64,
        after: f64,
    },
}

/// An event as it was seen somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seen {
    pub id: String,
    pub event: String,
    pub key: String,
    pub place: Place,
}

/// An event as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub id: String,
    pub queue: String,
    pub event: String,
    pub key: String,
    /// It may end as expired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expires: bool,
    /// It is for later: this many microseconds after the history began. Its place is told when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// The position of its key's last event that must still hold; 0: it is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<u64>,
    /// A receipt is asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub receipt: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Recorded {
        partition: u32,
        /// None: it waits for its time, or is so old a duplicate that nobody knows.
        position: Option<u64>,
        duplicate: bool,
    },
    Refused(String),
    /// The key's last event is another one than it expected.
    Stale {
        current: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Stored,
    Fsynced,
    Replicated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Parallel,
    Keyed,
    Exclusive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Begins {
    Earliest,
    Latest,
    /// A time, a position, a cursor.
    Elsewhere,
}

/// Which event names; None: all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter(pub Option<Vec<String>>);

impl Filter {
    pub fn takes(&self, event: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.iter().any(|name| name == event))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Ack,
    Nack {
        retryable: bool,
        /// The shortest and the longest pause until it may come again, jitter considered; None: the schedule's.
        pause_ms: Option<(u64, u64)>,
    },
    Release,
    Defer,
    Dead,
    Extend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    Done,
    LeaseLost,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    Started,
    /// The effect is there, and its handler said so.
    Done,
    /// The inbox knew it already: no second effect.
    Repeated,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frame {
    Event(Seen),
    Gap {
        from: u64,
        to: u64,
        lost: Option<u64>,
        reason: String,
    },
    CaughtUp,
    /// Only where it is: nothing happened that its filter takes.
    Idle,
}

/// What chains the frames of a client: cursors, which it can't read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// After what it was told; None where its transport doesn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
    /// Where it goes on.
    pub cursor: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Redrive,
    Discard,
    Seek,
    /// Trimming of what is settled was made possible.
    Trim,
    /// Losing what isn't settled was made possible: the queue drops its oldest, a group may be abandoned.
    Drop,
    /// Nobody posts to an endpoint any more.
    Disable,
    Enable,
}

/// What a fault excuses. What it doesn't is the bus's fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Harm {
    /// Calls fail or hang, answers are lost. Nothing else.
    Outage,
    /// The owner of the log began anew: leases end early.
    Restart,
    /// What was written after a moment of the history is gone, but for what was confirmed as on disk.
    PowerLoss { since: u64 },
    /// Everything that was written after a moment of the history is gone.
    Rollback { since: u64 },
    /// The memory of what was settled, or of what was published, is gone in part.
    Amnesia,
    /// What waited for its time is gone.
    Waiting,
    /// A member died, or stood still.
    Member { member: String },
    /// The clock of the leases steps.
    Clock { by_ms: i64 },
}
