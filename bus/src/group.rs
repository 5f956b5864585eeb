//! What a group of competing consumers declares of itself, and what a member's handler is given.

use std::{sync::Arc, time::Duration};

use events::{Envelope, Filter};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::{Error, Retry, lease};

/// The longest name of a group.
pub(crate) const NAME_BYTES: usize = 64;

/// How competing deliveries of a group relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Any order, as many at once as members take.
    Parallel,
    /// At most one unsettled delivery a key; the next only when the former is settled.
    Keyed,
    /// One member a partition, in order: what one claim leased is settled before the next gets anything, and an event that
    /// must be tried again holds back all behind it.
    Exclusive,
}

/// What a dead letter does to the events after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDead {
    /// They go on.
    #[default]
    Continue,
    /// Its key, in exclusive mode its partition, waits until it is redriven or discarded.
    Block,
}

/// Where a group that is new begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest event that is kept.
    #[default]
    Earliest,
    /// With what is recorded from now on.
    Latest,
    /// With the first event recorded then or later.
    Time(#[serde(with = "time::serde::rfc3339")] OffsetDateTime),
    /// With this position of each partition, or the oldest one kept after it.
    Position(u64),
}

/// A group of competing consumers, declared by them. Public fields, so that it reads as a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// 1 to 64 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    pub filter: Filter,
    pub mode: Mode,
    pub start: Start,
    /// How long a lease lasts without being extended; 1 s to 12 h.
    pub lease: Duration,
    /// The longest a handler may take; then it is cancelled, and the event tried again. None: as long as it likes. Where it
    /// is longer than the lease, the lease is extended while the handler lives.
    pub max_processing: Option<Duration>,
    pub on_dead: OnDead,
    pub retry: Retry,
    /// The most handlers at once in this member; 1 to 1,000. An exclusive group handles one after another.
    pub concurrency: usize,
    /// The most that all members together have leased of a partition at once; 1 to 1,000.
    pub in_flight: usize,
    /// Counts its declarations, where somebody does: one of a lower revision changes nothing, and once one of a higher is
    /// answered, nothing is claimed by what was declared before, by whatever process. 0 where nobody counts.
    pub revision: u64,
}

/// How the members of a group work: what an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub lease: Duration,
    pub max_processing: Duration,
    pub concurrency: usize,
}

impl Group {
    pub(crate) const MAX_PROCESSING: Duration = Duration::from_secs(900);

    /// The same group at another pace.
    #[must_use]
    pub fn at(self, Pace { lease, max_processing, concurrency }: Pace) -> Self {
        Self { lease, max_processing: Some(max_processing), concurrency, ..self }
    }

    /// Defaults: earliest, lease 30 s, max_processing 15 min, a dead letter blocks nothing, 64 at once, 1,000 in flight.
    pub fn new(name: &str, filter: Filter, mode: Mode) -> Self {
        Self {
            name: name.to_owned(),
            filter,
            mode,
            start: Start::Earliest,
            lease: Duration::from_secs(30),
            max_processing: Some(Self::MAX_PROCESSING),
            on_dead: OnDead::Continue,
            retry: Retry::Standard,
            concurrency: 64,
            in_flight: lease::IN_FLIGHT,
            revision: 0,
        }
    }

    /// Whether the settings are in range and don't contradict each other.
    ///
    /// # Errors
    /// [`Error::Invalid`] with a sentence that begins with the field's name.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |sentence: String| Err(Error::Invalid(sentence));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if self.name.is_empty() || self.name.len() > NAME_BYTES || !self.name.bytes().all(allowed) {
            return refuse(format!("name: {:?} is not 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'", self.name));
        }
        if let Err(error) = self.filter.check() {
            return refuse(format!("filter: {error}"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(12 * 3600)).contains(&self.lease) {
            return refuse(format!("lease: {:?} is not within 1 s to 12 h", self.lease));
        }
        if self.max_processing.is_some_and(|longest| longest.is_zero()) {
            return refuse("max_processing: must be longer than nothing".to_owned());
        }
        if self.on_dead == OnDead::Block && self.mode == Mode::Parallel {
            return refuse("on_dead: block keeps an order, and a parallel group has none".to_owned());
        }
        if !(1..=1000).contains(&self.concurrency) {
            return refuse(format!("concurrency: {} is not within 1 to 1,000", self.concurrency));
        }
        if !(1..=lease::IN_FLIGHT).contains(&self.in_flight) {
            return refuse(format!("in_flight: {} is not within 1 to 1,000", self.in_flight));
        }
        Ok(())
    }
}

/// An event handed to a member of a group.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The group that it is for.
    pub group: Arc<str>,
    pub envelope: Arc<Envelope>,
    pub partition: u32,
    pub position: u64,
    /// 1 for the first.
    pub attempt: u32,
    /// Changes when the group is moved: what comes again by that is another delivery.
    pub generation: u32,
    /// Cancelled when the lease is lost or the member must stop: what the handler does after it may be done again elsewhere.
    pub cancelled: CancellationToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        Group::new("logger", "DB/*".parse().unwrap(), Mode::Parallel)
    }

    #[test]
    fn the_defaults_are_valid() {
        group().validate().unwrap();
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_by_name() {
        for (group, field) in [
            (Group { name: "two words".into(), ..group() }, "name"),
            (Group { lease: Duration::from_millis(10), ..group() }, "lease"),
            (Group { lease: Duration::from_secs(13 * 3600), ..group() }, "lease"),
            (Group { max_processing: Some(Duration::ZERO), ..group() }, "max_processing"),
            (Group { on_dead: OnDead::Block, ..group() }, "on_dead"),
            (Group { concurrency: 0, ..group() }, "concurrency"),
            (Group { in_flight: 0, ..group() }, "in_flight"),
            (Group { in_flight: 1001, ..group() }, "in_flight"),
        ] {
            let error = group.validate().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
