//! How an endpoint stands in the log: its groups, one a queue, taken together.

use bus::{GroupStatus, LostRange, Sought};
use events::Name;
use time::OffsetDateTime;

/// What an endpoint has before it, and what it has lost.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Events that are not delivered yet.
    pub lag: u64,
    pub in_flight: u64,
    /// Waiting for another attempt, or for an acknowledgement.
    pub retrying: u64,
    /// Waiting for their key's turn.
    pub parked: u64,
    /// Given up after their last attempt; kept for 30 days.
    pub dead: u64,
    /// When the oldest that is not delivered was recorded.
    pub oldest: Option<OffsetDateTime>,
    /// Dropped before they were delivered, ever.
    pub lost: u64,
    /// Where, by queue.
    pub lost_ranges: Vec<(Name, LostRange)>,
    /// When it lost its hold on what it had not got.
    pub abandoned: Option<OffsetDateTime>,
}

/// Whether a group is an endpoint's. All ids are equally long.
pub(crate) fn is_of(group: &str, of: &str) -> bool {
    let mut rest = group.strip_prefix(of).map(str::chars);
    rest.as_mut().is_some_and(|rest| matches!(rest.next(), None | Some('.' | '-')))
}

impl Standing {
    /// Of the groups whose names begin so.
    pub(crate) fn of(groups: &[GroupStatus], name: &str) -> Self {
        let mut standing = Self::default();
        for group in groups.iter().filter(|group| is_of(&group.name, name)) {
            standing.lag += group.lag;
            standing.in_flight += group.in_flight;
            standing.retrying += group.retrying;
            standing.parked += group.parked;
            standing.dead += group.dead;
            standing.oldest = [standing.oldest, group.oldest].into_iter().flatten().min();
            standing.lost += group.lost;
            standing.lost_ranges.extend(group.lost_ranges.iter().map(|range| (group.filter.queue.clone(), *range)));
            standing.abandoned = [standing.abandoned, group.abandoned].into_iter().flatten().min();
        }
        standing
    }

    /// How many events it gets if it goes on from elsewhere.
    pub(crate) fn after(&self, sought: &Sought) -> u64 {
        (self.lag + sought.again).saturating_sub(sought.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_s_groups_begin_with_its_name() {
        assert!(is_of("webhook.wh_1", "webhook.wh_1") && is_of("webhook.wh_1.ORDERS", "webhook.wh_1"));
        assert!(!is_of("webhook.wh_12", "webhook.wh_1") && !is_of("logger", "webhook.wh_1"));
    }
}
