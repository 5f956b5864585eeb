//! I13: what is posted to an endpoint is signed by a key of its own that is good, of now, and comes while the endpoint is
//! enabled. I8: it comes again no sooner than the endpoint wants it, or the schedule says.

use std::collections::{BTreeMap, HashMap};

use super::{
    Found,
    Invariant::{I8, I13},
    view::{SLACK, View},
};
use crate::history::{Action, Entry, Harm, Op, What};

const SECOND: u64 = 1_000_000;
/// How long a key signs, too, that has given way to another one; and what doesn't matter of it.
const OVERLAP: u64 = 24 * 3600 * SECOND;
const ABOUT: u64 = 60 * SECOND;
/// What receivers take, by the specification of Standard Webhooks.
const TOLERANCE_S: i64 = 300;
/// The pauses after a failure, in seconds; 20 % less at most.
const SCHEDULE: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

#[derive(Default)]
struct Endpoint<'a> {
    /// When each of its former keys gave way, by the clock.
    rotated: Vec<u64>,
    /// Where it was disabled.
    disabled: Option<usize>,
    /// By event, what it failed with and didn't do since.
    failed: HashMap<&'a str, Failed>,
}

#[derive(Default)]
struct Failed {
    times: usize,
    /// The last failure, and when it may come again by the clock.
    entry: usize,
    again: u64,
}

pub(super) fn check(view: &View<'_>, found: &mut Found) {
    let mut endpoints: BTreeMap<&str, Endpoint<'_>> = BTreeMap::new();
    let mut posts: HashMap<Op, (&str, &str)> = HashMap::new();
    for (index, Entry { at, what }) in view.entries.iter().enumerate() {
        match what {
            What::Posted { op, endpoint, id, keys, age_s, clock } => {
                posts.insert(*op, (endpoint, id));
                let endpoint = endpoints.entry(endpoint).or_default();
                endpoint.signed(id, keys, *clock, index, found);
                if let Some(disabled) = endpoint.disabled {
                    found.add(I13, format!("{id} came to an endpoint that was disabled"), &[disabled, index]);
                }
                // What was under way for long, or while the clock stepped, its receiver refuses.
                if age_s.abs() > TOLERANCE_S && view.faults(*at, *at).next().is_none() {
                    found.add(I13, format!("{id} came {age_s} s after it was signed"), &[index]);
                }
                endpoint.paused(view, id, *clock, index, found);
            }
            What::Replied { op, status, retry_after_s, clock } => {
                let Some((endpoint, id)) = posts.get(op) else { continue };
                endpoints.entry(endpoint).or_default().answered(id, (*status, *retry_after_s), *clock, index);
            }
            What::Rotated { endpoint, clock } => endpoints.entry(endpoint).or_default().rotated.push(*clock),
            What::Operated { group, action: Action::Disable } => {
                endpoints.entry(group).or_default().disabled = Some(index);
            }
            What::Operated { group, action: Action::Enable } => {
                let endpoint = endpoints.entry(group).or_default();
                endpoint.disabled = None;
                // What waited for another attempt comes at once.
                endpoint.failed.values_mut().for_each(|failed| failed.again = 0);
            }
            _ => {}
        }
    }
}

impl<'a> Endpoint<'a> {
    fn signed(&self, id: &str, keys: &[u32], clock: u64, entry: usize, found: &mut Found) {
        if keys.is_empty() {
            found.add(I13, format!("{id} came, and none of the endpoint's keys signed it"), &[entry]);
        }
        for (key, rotated) in (0..).zip(&self.rotated) {
            let is_over = clock > rotated + OVERLAP + ABOUT;
            if is_over && keys.contains(&key) {
                found.add(I13, format!("{id} is signed by the key {key}, which is over"), &[entry]);
            }
            let is_last = key as usize + 1 == self.rotated.len();
            if is_last && clock + ABOUT < rotated + OVERLAP && !keys.contains(&key) {
                found.add(I13, format!("{id} isn't signed by the key {key}, which is good for a day yet"), &[entry]);
            }
        }
    }

    fn paused(&self, view: &View<'_>, id: &str, clock: u64, entry: usize, found: &mut Found) {
        let Some(failed) = self.failed.get(id) else { return };
        // Of what was under way when the bus was cut off, nobody knows that it failed.
        let away = |harm: &Harm| matches!(harm, Harm::Outage | Harm::Restart | Harm::Member { .. });
        let (from, to) = (view.at(failed.entry), view.at(entry));
        let excused = view.may_be_forgotten(from, to) || view.faults(from, to).any(|fault| away(fault.harm));
        if clock + SLACK < failed.again && !excused {
            found.add(I8, format!("{id} came to an endpoint sooner than it was to"), &[failed.entry, entry]);
        }
    }

    fn answered(&mut self, id: &'a str, (status, retry_after_s): (u16, Option<u64>), clock: u64, entry: usize) {
        match status {
            200..=299 => _ = self.failed.remove(id),
            // It is the endpoint that ends.
            410 => {}
            _ => {
                let failed = self.failed.entry(id).or_default();
                let scheduled = SCHEDULE.get(failed.times).map_or(0, |pause| pause * SECOND / 5 * 4);
                failed.times += 1;
                failed.entry = entry;
                failed.again = clock + retry_after_s.map_or(scheduled, |pause| pause * SECOND);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Invariant, check};

    const HOUR: u64 = 3600;

    /// What comes to the endpoint `e`, at so many seconds of the clock.
    struct Story(Vec<Entry>);

    impl Story {
        fn then(mut self, at_s: u64, what: What) -> Self {
            self.0.push(Entry { at: at_s * SECOND, what });
            self
        }

        fn posted_by(self, at_s: u64, keys: &[u32], age_s: i64) -> Self {
            let (op, clock) = (at_s, at_s * SECOND);
            let posted = What::Posted { op, endpoint: "e".into(), id: "a".into(), keys: keys.to_vec(), age_s, clock };
            self.then(at_s, posted)
        }

        /// It comes, and is answered so.
        fn posted(self, at_s: u64, status: u16, retry_after_s: Option<u64>) -> Self {
            let (op, clock) = (at_s, at_s * SECOND);
            self.posted_by(at_s, &[0], 0).then(at_s, What::Replied { op, status, retry_after_s, clock })
        }

        fn rotated(self, at_s: u64) -> Self {
            self.then(at_s, What::Rotated { endpoint: "e".into(), clock: at_s * SECOND })
        }

        fn operated(self, at_s: u64, action: Action) -> Self {
            self.then(at_s, What::Operated { group: "e".into(), action })
        }

        #[track_caller]
        fn passes(self) {
            assert_eq!(check(&self.0), []);
        }

        #[track_caller]
        fn breaks(self, invariant: Invariant, told: &str) {
            let found = check(&self.0);
            assert!(found.iter().any(|violation| violation.told.contains(told)), "{told:?} in {found:#?}");
            assert!(found.iter().all(|violation| violation.invariant == invariant), "{found:#?}");
        }
    }

    fn story() -> Story {
        Story(Vec::new())
    }

    #[test]
    fn i13_it_is_signed_by_a_key_that_is_good() {
        story().posted_by(1, &[0], 0).passes();
        story().posted_by(1, &[], 0).breaks(I13, "none of the endpoint's keys");
        let rotated = || story().posted_by(1, &[0], 0).rotated(2);
        rotated().posted_by(3, &[0, 1], 0).posted_by(25 * HOUR, &[1], 0).passes();
        // Who was on its way knows the former alone.
        rotated().posted_by(3, &[0], 0).passes();
        rotated().posted_by(3, &[1], 0).breaks(I13, "good for a day yet");
        rotated().posted_by(25 * HOUR, &[0, 1], 0).breaks(I13, "which is over");
        rotated().posted_by(25 * HOUR, &[], 0).breaks(I13, "none of the endpoint's keys");
    }

    #[test]
    fn i13_it_is_of_now() {
        story().posted_by(1, &[0], 299).passes();
        story().posted_by(1, &[0], 301).breaks(I13, "301 s after");
        story().posted_by(1, &[0], -301).breaks(I13, "-301 s after");
        let slow = What::Harmed { by: "network".into(), harm: Harm::Outage };
        story().then(0, slow).posted_by(1, &[0], 301).passes();
    }

    #[test]
    fn i13_nothing_comes_while_it_is_disabled() {
        let disabled = || story().posted(1, 410, None).operated(2, Action::Disable);
        disabled().operated(4, Action::Enable).posted(5, 204, None).passes();
        disabled().posted(3, 204, None).breaks(I13, "disabled");
    }

    #[test]
    fn i8_a_pause_of_an_endpoint_is_kept() {
        story().posted(1, 503, Some(60)).posted(61, 204, None).posted(62, 204, None).passes();
        story().posted(1, 503, Some(60)).posted(60, 204, None).breaks(I8, "sooner");
        story().posted(1, 500, None).posted(5, 500, None).posted(245, 204, None).passes();
        story().posted(1, 500, None).posted(4, 204, None).breaks(I8, "sooner");
        story().posted(1, 500, None).posted(5, 500, None).posted(244, 204, None).breaks(I8, "sooner");
        // Whoever enables it has it come at once.
        story().posted(1, 500, None).operated(2, Action::Enable).posted(3, 204, None).passes();
    }
}
