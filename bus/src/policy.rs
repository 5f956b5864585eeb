//! What both backends store of a group's declaration besides its filter, its mode and its lease. What an older version
//! didn't write has its default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Group, OnDead, Retry, Start, lease};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Policy {
    #[serde(default)]
    on_dead: OnDead,
    /// None: as long as a handler likes.
    #[serde(default = "default_max_processing_ms")]
    max_processing_ms: Option<u64>,
    #[serde(default)]
    start: Start,
    #[serde(default)]
    retry: Retry,
    #[serde(default = "default_in_flight")]
    in_flight: usize,
    #[serde(default)]
    revision: u64,
}

fn default_in_flight() -> usize {
    lease::IN_FLIGHT
}

fn default_max_processing_ms() -> Option<u64> {
    Some(millis(Group::MAX_PROCESSING))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<&Group> for Policy {
    fn from(group: &Group) -> Self {
        Self {
            on_dead: group.on_dead,
            max_processing_ms: group.max_processing.map(millis),
            start: group.start,
            retry: group.retry,
            in_flight: group.in_flight,
            revision: group.revision,
        }
    }
}

impl Policy {
    /// The group with what was stored of it.
    pub(crate) fn of(self, group: Group) -> Group {
        let max_processing = self.max_processing_ms.map(Duration::from_millis);
        let Self { on_dead, start, retry, in_flight, revision, .. } = self;
        Group { on_dead, max_processing, start, retry, in_flight, revision, ..group }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::Mode;

    #[test]
    fn a_policy_survives_its_text_form() {
        let group = Group::new("g", "DB/*".parse().unwrap(), Mode::Keyed);
        for start in [Start::Earliest, Start::Latest, Start::Time(datetime!(2026-11-21 6:00 UTC)), Start::Position(7)] {
            let group = Group {
                start,
                on_dead: OnDead::Block,
                max_processing: None,
                retry: Retry::Patient,
                in_flight: 8,
                revision: 3,
                ..group.clone()
            };
            let text = serde_json::to_string(&Policy::from(&group)).unwrap();
            let read = serde_json::from_str::<Policy>(&text).unwrap();
            assert_eq!(read.of(Group::new("g", "DB/*".parse().unwrap(), Mode::Keyed)), group, "{text}");
        }
    }

    #[test]
    fn what_an_older_version_left_out_is_the_default() {
        let group = Group::new("g", "DB/*".parse().unwrap(), Mode::Keyed);
        assert_eq!(serde_json::from_str::<Policy>("{}").unwrap().of(group.clone()), group);
    }
}
