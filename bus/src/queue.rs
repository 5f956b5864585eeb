//! A queue's settings: what is kept and for how long, what is known of each key.

use std::{ops::RangeInclusive, time::Duration};

use events::Name;
use serde::{Deserialize, Serialize};

use crate::{Error, presence, sys};

/// A queue's settings. A queue that is published to before somebody set them has those of [`Queue::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    pub name: Name,
    /// 1 to 256; fixed once the queue has events.
    pub partitions: u32,
    /// How long an event is kept, unless a group still needs it: one minute to 3,650 days.
    pub max_age: Duration,
    /// The most bytes of events that a partition keeps: 1 MiB to 1 TiB. None: no limit.
    pub max_bytes: Option<u64>,
    /// The most events that a partition keeps: 1 to 10¹². None: no limit.
    pub max_len: Option<u64>,
    /// What becomes of a publish where a partition keeps the most it may and groups still need all of it.
    pub overflow: Overflow,
    /// How long an event that is published again is known to be there: at most 24 hours, in memory. Zero: not at all.
    pub dedupe: Duration,
    /// Each key's last event is known: [`crate::Bus::latest`], and events may carry an `expectedversion`.
    pub latest: bool,
    /// Events matter only while they are new: a replay passes over them.
    pub realtime: bool,
    /// What clients publish is kept in the broker's outbox besides, and survives a flush.
    pub journal: bool,
}

/// What becomes of a publish into a partition that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// It is refused.
    #[default]
    Reject,
    /// The oldest events make room, settled or not; groups that hadn't settled them are told.
    DropOldest,
}

impl Queue {
    pub const PARTITIONS: RangeInclusive<u32> = 1..=256;
    pub const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(3650 * 86_400);
    pub const MAX_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;
    pub const MAX_LEN: RangeInclusive<u64> = 1..=1_000_000_000_000;
    pub const LONGEST_DEDUPE: Duration = Duration::from_secs(86_400);

    /// The defaults: one partition, seven days, no limit by size, a dedupe window of two hours.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            partitions: 1,
            max_age: Duration::from_secs(7 * 86_400),
            max_bytes: None,
            max_len: None,
            overflow: Overflow::Reject,
            dedupe: Duration::from_secs(2 * 3600),
            latest: false,
            realtime: false,
            journal: false,
        }
    }

    /// As a queue comes into being that nobody declares: by the defaults, but for those that the bus itself writes.
    pub fn initial(name: Name) -> Self {
        match name.as_str() {
            "SYS" => sys::queue(),
            _ => presence::queue(&name).unwrap_or_else(|| Self::new(name)),
        }
    }

    /// Whether each setting is within its range.
    ///
    /// # Errors
    /// [`Error::Invalid`]; the text names the first one that isn't.
    pub fn validate(&self) -> Result<(), Error> {
        let refused = |what: String| Err(Error::Invalid(what));
        if !Self::PARTITIONS.contains(&self.partitions) {
            return refused(format!("partitions: {} is not within 1 to 256", self.partitions));
        }
        if !Self::MAX_AGE.contains(&self.max_age) {
            return refused(format!("max_age: {:?} is not within 1 minute to 3,650 days", self.max_age));
        }
        if let Some(bytes) = self.max_bytes.filter(|bytes| !Self::MAX_BYTES.contains(bytes)) {
            return refused(format!("max_bytes: {bytes} is not within 1 MiB to 1 TiB"));
        }
        if let Some(len) = self.max_len.filter(|len| !Self::MAX_LEN.contains(len)) {
            return refused(format!("max_len: {len} is not within 1 to 1,000,000,000,000"));
        }
        if self.dedupe > Self::LONGEST_DEDUPE {
            return refused(format!("dedupe: {:?} is more than 24 hours", self.dedupe));
        }
        if presence::is_attended(&self.name) && !self.latest {
            return refused(format!("latest: {} tells by it when somebody was last there", self.name));
        }
        Ok(())
    }
}

impl Overflow {
    /// As it is written: `reject`, `drop_oldest`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::DropOldest => "drop_oldest",
        }
    }

    /// From [`Overflow::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Reject, Self::DropOldest].into_iter().find(|overflow| overflow.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_out_of_its_range_is_refused_by_name() {
        let queue = || Queue::new(Name::new("DB").unwrap());
        assert!(queue().validate().is_ok());
        for (field, wrong) in [
            ("partitions", Queue { partitions: 0, ..queue() }),
            ("partitions", Queue { partitions: 257, ..queue() }),
            ("max_age", Queue { max_age: Duration::from_secs(59), ..queue() }),
            ("max_bytes", Queue { max_bytes: Some(1000), ..queue() }),
            ("max_len", Queue { max_len: Some(0), ..queue() }),
            ("dedupe", Queue { dedupe: Duration::from_secs(86_401), ..queue() }),
        ] {
            let Err(Error::Invalid(text)) = wrong.validate() else { panic!("{field} was taken") };
            assert!(text.starts_with(field), "{text}");
        }
    }
}
