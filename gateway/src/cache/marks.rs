//! Purging. What is purged is not looked for: it only leaves a mark, and every answer is asked whether it is older than
//! the marks of its tags. So a purge costs the same however much it purges, no index of tags has to be kept within bounds
//! or cleaned up, and an answer that was being fetched when its tag was purged is as gone as one that was there.
//!
//! Marks stand in a table of fixed size, each in two places by the hash of what is marked. Where both are taken by other
//! purges since, an answer is fetched once more than it had to be, never once less: with n purges in an answer's life that
//! is a chance of (n / 131,072)².

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::key::hash_of;

/// 1 MiB of marks.
const PLACES: usize = 1 << 17;

pub struct Marks {
    /// How many purges there have been.
    epoch: AtomicU64,
    places: Box<[AtomicU64]>,
    all: AtomicU64,
    /// What was on its way then must not be kept.
    spoiled: AtomicU64,
}

/// The places of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u32; 2]);

/// A moment between purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

impl Mark {
    /// Of a tag, as configurations and operators name it.
    pub fn of_tag(tag: &str) -> Self {
        Self::of(b"tag", tag.as_bytes())
    }

    /// Of all answers of one target, whoever asked.
    pub fn of_target(host: &[u8], target: &[u8]) -> Self {
        Self::of(host, target)
    }

    fn of(kind: &[u8], name: &[u8]) -> Self {
        let mut text = Vec::with_capacity(kind.len() + 1 + name.len());
        text.extend_from_slice(kind);
        text.push(0);
        text.extend_from_slice(name);
        let hash = hash_of(&text);
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below PLACES")]
        Self([hash, hash >> 32].map(|half| (half % PLACES as u64) as u32))
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            all: AtomicU64::new(0),
            spoiled: AtomicU64::new(0),
        }
    }
}

impl Marks {
    /// To be taken before anything is fetched.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.epoch.load(SeqCst))
    }

    pub fn purge(&self, mark: Mark) {
        let now = self.next();
        for place in mark.0 {
            self.places[place as usize].fetch_max(now, SeqCst);
        }
    }

    pub fn purge_all(&self) {
        let now = self.next();
        self.all.fetch_max(now, SeqCst);
    }

    /// What is being fetched now is not kept. For purges by what only keys tell.
    pub fn spoil(&self) {
        let now = self.next();
        self.spoiled.fetch_max(now, SeqCst);
    }

    /// Whether what began to be fetched then may be kept, as far as that is known by now.
    pub fn may_keep(&self, stamp: Stamp) -> bool {
        self.spoiled.load(SeqCst) <= stamp.0
    }

    /// Whether nothing of it was purged since.
    pub fn stand(&self, stamp: Stamp, marks: &[Mark]) -> bool {
        self.all.load(SeqCst) <= stamp.0
            && marks.iter().all(|mark| mark.0.iter().any(|place| self.places[*place as usize].load(SeqCst) <= stamp.0))
    }

    fn next(&self) -> u64 {
        self.epoch.fetch_add(1, SeqCst) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_before_a_purge_does_not_stand_whenever_it_is_kept() {
        let marks = Marks::default();
        let (own, other) = (Mark::of_tag("a:1"), Mark::of_tag("a:2"));
        assert_ne!(own, other);
        let before = marks.stamp();
        assert!(marks.stand(before, &[own, other]));
        marks.purge(own);
        assert!(!marks.stand(before, &[other, own]) && marks.stand(before, &[other]));
        let after = marks.stamp();
        assert!(marks.stand(after, &[own]));
        marks.purge_all();
        assert!(!marks.stand(after, &[]) && marks.stand(marks.stamp(), &[own, other]));
    }

    #[test]
    fn thousands_of_purges_leave_what_has_another_tag() {
        let marks = Marks::default();
        let (before, kept) = (marks.stamp(), (0..1000).map(|n| Mark::of_tag(&format!("kept:{n}"))));
        (0..2000).for_each(|n| marks.purge(Mark::of_tag(&format!("purged:{n}"))));
        let stand = kept.filter(|mark| marks.stand(before, &[*mark])).count();
        assert!(stand >= 990, "{stand} of 1000");
    }

    #[test]
    fn what_is_on_its_way_can_be_spoilt() {
        let marks = Marks::default();
        let before = marks.stamp();
        assert!(marks.may_keep(before));
        marks.spoil();
        assert!(!marks.may_keep(before) && marks.may_keep(marks.stamp()));
        assert!(marks.stand(before, &[]), "what was there stays");
    }
}
