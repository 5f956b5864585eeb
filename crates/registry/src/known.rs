//! What somebody who follows a service knows of it: a state machine without I/O, fed with what Redis says.
//!
//! What is missing, or silent, is gone only for who has listened without a break for a while. A break is: Redis did not
//! answer, it has lost its memory, its clock has jumped, or we stood still ourselves. After one, everybody gets time to
//! speak up.
//!
//! Where all are silent at once while Redis answers, it is likelier that they can't reach it than that all have died: they
//! are believed to be there for a while yet.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{DISBELIEF, GRACE, INSTANCES, Instance};

/// Redis was read at least so often, if there was no break.
const GAP: Duration = Duration::from_secs(3);
/// How far its clock may be off ours from one reading to the next, in ms.
const DRIFT: u64 = 2000;

/// What Redis holds of a service.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Its clock, in ms.
    pub now: u64,
    /// Which memory this is; none where there is nothing.
    pub epoch: Option<String>,
    /// With the moment until which each counts as alive, in ms.
    pub instances: Vec<(Instance, u64)>,
}

#[derive(Default)]
pub(crate) struct Known {
    instances: BTreeMap<String, Instance>,
    epoch: Option<String>,
    contact: Option<Contact>,
    /// Since when nobody is heard, though some are known and none has left.
    hush: Option<Instant>,
    /// The next moment at which one may be silent for too long.
    next: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Contact {
    /// What is missing or silent after this moment is gone.
    trusted_from: Instant,
    last: Instant,
    /// The clock of Redis at that moment.
    clock: u64,
}

impl Known {
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// When to read again at the latest, for the sake of the one that will have been silent first.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Nobody is heard: what is known is what was.
    pub fn is_in_doubt(&self) -> bool {
        self.hush.is_some() && !self.instances.is_empty()
    }

    /// Redis could not be read.
    pub fn lost(&mut self) {
        self.contact = None;
        self.next = None;
    }

    /// An instance has said that it leaves. Returns whether it was known.
    pub fn left(&mut self, id: &str) -> bool {
        let before = self.instances.len();
        self.instances.retain(|_, instance| instance.id != id);
        self.instances.len() < before
    }

    /// What Redis holds. Returns whether anything is different.
    pub fn read(&mut self, listing: Listing, now: Instant) -> bool {
        let has_forgotten = self.epoch.is_some() && self.epoch != listing.epoch;
        let trusted_from = match self.contact {
            Some(contact) if !has_forgotten && contact.goes_on(&listing, now) => contact.trusted_from,
            // Nothing can be lost that was never known.
            _ if self.instances.is_empty() => now,
            _ => now + GRACE,
        };
        self.contact = Some(Contact { trusted_from, last: now, clock: listing.now });
        self.epoch = listing.epoch;

        let mut next = BTreeMap::new();
        let mut silent = Vec::new();
        self.next = None;
        for (instance, until) in listing.instances {
            let Some(left) = until.checked_sub(listing.now).filter(|left| *left > 0) else {
                silent.push(instance);
                continue;
            };
            let deadline = now + Duration::from_millis(left);
            self.next = Some(self.next.map_or(deadline, |next| next.min(deadline)));
            next.insert(instance.address.clone(), instance);
        }
        if now < trusted_from {
            for (address, instance) in &self.instances {
                next.entry(address.clone()).or_insert_with(|| instance.clone());
            }
            self.next = Some(self.next.map_or(trusted_from, |next| next.min(trusted_from)));
        }
        silent.retain(|instance| self.instances.contains_key(&instance.address));
        if !next.is_empty() || silent.is_empty() {
            self.hush = None;
        } else if now < *self.hush.get_or_insert(now) + DISBELIEF {
            next.extend(silent.into_iter().map(|instance| (instance.address.clone(), instance)));
        }
        while next.len() > INSTANCES {
            next.pop_last();
        }
        let changed = next != self.instances;
        self.instances = next;
        changed
    }
}

impl Contact {
    fn goes_on(&self, listing: &Listing, now: Instant) -> bool {
        let ours = now.saturating_duration_since(self.last);
        let theirs = listing.now.saturating_sub(self.clock);
        let ours_in_ms = u64::try_from(ours.as_millis()).unwrap_or(u64::MAX);
        ours <= GAP && theirs.abs_diff(ours_in_ms) <= DRIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LIFETIME;

    /// A Redis and a clock to play with.
    struct Scene {
        known: Known,
        start: Instant,
        /// Milliseconds since the start.
        at: u64,
        /// How far the clock of Redis is ahead.
        ahead: u64,
        epoch: Option<&'static str>,
        beats: BTreeMap<&'static str, u64>,
    }

    const LIFE: u64 = LIFETIME.as_millis() as u64;

    impl Scene {
        fn new(addresses: &[&'static str]) -> Self {
            let mut scene = Self {
                known: Known::default(),
                start: Instant::now(),
                at: 0,
                ahead: 1_000_000,
                epoch: Some("first"),
                beats: BTreeMap::new(),
            };
            scene.beat(addresses);
            scene.read();
            scene
        }

        fn beat(&mut self, addresses: &[&'static str]) {
            for address in addresses {
                self.beats.insert(address, self.at + self.ahead + LIFE);
            }
        }

        fn read(&mut self) {
            let instance = |address: &str| Instance { id: format!("id of {address}"), ..Instance::new(address) };
            let instances = self.beats.iter().map(|(address, until)| (instance(address), *until)).collect();
            let listing = Listing { now: self.at + self.ahead, epoch: self.epoch.map(str::to_owned), instances };
            self.known.read(listing, self.start + Duration::from_millis(self.at));
        }

        /// A second each, with everybody's beat and a reading.
        fn seconds(&mut self, seconds: u64, alive: &[&'static str]) {
            for _ in 0..seconds {
                self.at += 1000;
                self.beat(alive);
                self.read();
            }
        }

        fn known(&self) -> Vec<&str> {
            self.known.instances().map(|instance| instance.address.as_str()).collect()
        }
    }

    #[test]
    fn who_is_silent_for_a_lifetime_is_gone() {
        let mut scene = Scene::new(&["a:1", "b:1"]);
        scene.seconds(4, &["a:1"]);
        assert_eq!(scene.known(), ["a:1", "b:1"]);
        scene.seconds(1, &["a:1"]);
        assert_eq!(scene.known(), ["a:1"]);
        scene.seconds(1, &["a:1", "b:1"]);
        assert_eq!(scene.known(), ["a:1", "b:1"], "it speaks again");
    }

    #[test]
    fn the_next_look_is_when_the_first_may_have_been_silent_for_too_long() {
        let mut scene = Scene::new(&["a:1", "b:1"]);
        scene.seconds(2, &["a:1"]);
        assert_eq!(scene.known.next(), Some(scene.start + LIFETIME));
    }

    #[test]
    fn who_leaves_is_gone_at_once_and_so_is_who_is_missing_unheard() {
        let mut scene = Scene::new(&["a:1", "b:1", "c:1"]);
        assert!(scene.known.left("id of b:1") && !scene.known.left("id of b:1"));
        assert_eq!(scene.known(), ["a:1", "c:1"]);
        scene.beats.remove("b:1");
        scene.beats.remove("c:1");
        scene.seconds(1, &["a:1"]);
        assert_eq!(scene.known(), ["a:1"]);
    }

    #[test]
    fn who_was_silent_before_we_came_was_never_there() {
        let mut scene = Scene::new(&["a:1"]);
        scene.at += LIFE;
        scene.known = Known::default();
        scene.read();
        assert!(scene.known().is_empty());
    }

    #[test]
    fn a_redis_without_memory_takes_nobody_away() {
        let mut scene = Scene::new(&["a:1", "b:1"]);
        scene.seconds(3, &["a:1", "b:1"]);
        (scene.epoch, scene.beats) = (Some("second"), BTreeMap::new());
        scene.seconds(1, &[]);
        assert_eq!(scene.known(), ["a:1", "b:1"]);
        scene.seconds(9, &["a:1"]);
        assert_eq!(scene.known(), ["a:1", "b:1"], "it has ten seconds to speak up");
        scene.seconds(1, &["a:1"]);
        assert_eq!(scene.known(), ["a:1"]);
    }

    #[test]
    fn where_nobody_speaks_up_again_nobody_is_there() {
        let mut scene = Scene::new(&["a:1", "b:1"]);
        (scene.epoch, scene.beats) = (None, BTreeMap::new());
        scene.seconds(1, &[]);
        assert_eq!(scene.known(), ["a:1", "b:1"]);
        scene.seconds(GRACE.as_secs(), &[]);
        assert!(scene.known().is_empty());
    }

    #[test]
    fn where_all_are_silent_at_once_they_may_be_cut_off_and_stay_for_a_while() {
        let mut scene = Scene::new(&["a:1", "b:1", "c:1"]);
        scene.beats.remove("c:1");
        scene.seconds(LIFETIME.as_secs(), &[]);
        assert_eq!((scene.known(), scene.known.is_in_doubt()), (vec!["a:1", "b:1"], true));
        scene.known.left("id of b:1");
        scene.beats.remove("b:1");
        scene.seconds(DISBELIEF.as_secs() - 1, &[]);
        assert_eq!((scene.known(), scene.known.is_in_doubt()), (vec!["a:1"], true), "who says so is gone");
        scene.seconds(1, &[]);
        assert_eq!((scene.known(), scene.known.is_in_doubt()), (vec![], false));
        scene.seconds(1, &["a:1"]);
        assert_eq!((scene.known(), scene.known.is_in_doubt()), (vec!["a:1"], false));
    }

    #[test]
    fn one_that_is_heard_is_enough_to_believe_that_the_silent_are_gone() {
        let mut scene = Scene::new(&["a:1", "b:1"]);
        scene.seconds(LIFETIME.as_secs() + 10, &[]);
        assert_eq!(scene.known(), ["a:1", "b:1"]);
        scene.seconds(1, &["b:1"]);
        assert_eq!((scene.known(), scene.known.is_in_doubt()), (vec!["b:1"], false));
        scene.seconds(LIFETIME.as_secs() + DISBELIEF.as_secs() - 1, &[]);
        assert_eq!(scene.known(), ["b:1"], "the while begins anew");
    }

    #[test]
    fn a_redis_that_was_away_or_frozen_takes_nobody_away() {
        for is_told in [true, false] {
            let mut scene = Scene::new(&["a:1", "b:1"]);
            if is_told {
                scene.known.lost();
            }
            // Nobody could beat meanwhile.
            scene.at += 60_000;
            scene.read();
            assert_eq!(scene.known(), ["a:1", "b:1"]);
            scene.seconds(GRACE.as_secs(), &["b:1"]);
            assert_eq!(scene.known(), ["b:1"]);
        }
    }

    #[test]
    fn a_clock_that_jumps_takes_nobody_away() {
        let mut scene = Scene::new(&["a:1", "b:1"]);
        scene.seconds(1, &["a:1", "b:1"]);
        scene.ahead += 3_600_000;
        scene.read();
        assert_eq!(scene.known(), ["a:1", "b:1"]);
        scene.seconds(GRACE.as_secs(), &["a:1", "b:1"]);
        scene.ahead -= 1_800_000;
        scene.seconds(GRACE.as_secs() + 1, &["a:1", "b:1"]);
        assert_eq!(scene.known(), ["a:1", "b:1"]);
    }

    #[test]
    fn who_leaves_while_nobody_is_trusted_to_be_gone_is_gone_all_the_same() {
        let mut scene = Scene::new(&["a:1", "b:1"]);
        scene.known.lost();
        scene.seconds(1, &["a:1"]);
        scene.known.left("id of b:1");
        scene.beats.remove("b:1");
        scene.seconds(1, &["a:1"]);
        assert_eq!(scene.known(), ["a:1"]);
    }

    #[test]
    fn more_than_the_most_are_left_out() {
        let mut known = Known::default();
        let many = (0..=INSTANCES).map(|n| (Instance::new(format!("a:{}", n + 1)), 10));
        known.read(Listing { now: 1, epoch: None, instances: many.collect() }, Instant::now());
        assert_eq!(known.instances().count(), INSTANCES);
    }
}
