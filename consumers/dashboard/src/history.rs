//! The last five minutes, second by second.

use std::collections::VecDeque;

use crate::view::Second;

const SECONDS: i64 = 300;

/// Each second with the board's version in which it changed last: oldest first, without holes.
#[derive(Default)]
pub(crate) struct History(VecDeque<(u64, Second)>);

impl History {
    /// Changes a second (since 1970), unless it is older than what is charted.
    pub fn change(&mut self, second: i64, now: i64, version: u64, change: impl FnOnce(&mut Second)) {
        let first = now - SECONDS + 1;
        while self.0.front().is_some_and(|(_, oldest)| oldest.second < first) {
            self.0.pop_front();
        }
        if second < first {
            return;
        }
        let empty = |second| (version, Second { second, ..Second::default() });
        let newest = self.0.back().map_or(second - 1, |(_, newest)| newest.second);
        self.0.extend((newest + 1..=second).map(empty));
        let oldest = self.0.front().map_or(second, |(_, oldest)| oldest.second);
        for earlier in (second..oldest).rev() {
            self.0.push_front(empty(earlier));
        }
        let at = usize::try_from(second - oldest.min(second)).ok();
        if let Some((changed, second)) = at.and_then(|at| self.0.get_mut(at)) {
            *changed = version;
            change(second);
        }
    }

    /// What changed after a version.
    pub fn after(&self, version: u64) -> impl Iterator<Item = &Second> {
        self.0.iter().filter(move |(changed, _)| *changed > version).map(|(_, second)| second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(history: &mut History, second: i64, now: i64, version: u64) {
        history.change(second, now, version, |second| *second.events.entry("DB".to_owned()).or_default() += 1);
    }

    fn told(history: &History, after: u64) -> Vec<(i64, u32)> {
        history.after(after).map(|second| (second.second, second.events.get("DB").copied().unwrap_or(0))).collect()
    }

    #[test]
    fn seconds_are_without_holes_in_whatever_order_they_come() {
        let mut history = History::default();
        for second in [1_003, 1_000, 1_005, 1_003] {
            count(&mut history, second, 1_010, 1);
        }
        assert_eq!(told(&history, 0), [(1_000, 1), (1_001, 0), (1_002, 0), (1_003, 2), (1_004, 0), (1_005, 1)]);
    }

    #[test]
    fn only_what_changed_is_told() {
        let mut history = History::default();
        count(&mut history, 1_000, 1_000, 1);
        count(&mut history, 1_001, 1_001, 2);
        count(&mut history, 1_000, 1_001, 3);
        assert_eq!(told(&history, 2), [(1_000, 2)]);
        assert_eq!(told(&history, 3), []);
    }

    #[test]
    fn it_reaches_back_five_minutes_and_no_further() {
        let mut history = History::default();
        count(&mut history, 700, 1_000, 1);
        assert_eq!(told(&history, 0), []);
        count(&mut history, 701, 1_000, 1);
        count(&mut history, 1_000, 1_000, 1);
        assert_eq!(told(&history, 0).len(), 300);
        count(&mut history, 5_000, 5_000, 2);
        assert_eq!(told(&history, 0), [(5_000, 1)]);
    }
}
