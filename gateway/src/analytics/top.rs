//! Who comes most often, of any number of comers and in bounded memory (space-saving; Metwally, Agrawal and El Abbadi, 2005).
//! A count may be too high, by at most its own `error`; whoever is not listed came at most `floor` times.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Comers are told apart by a hash of 64 bits, made once a request; `W` says who they are.
#[derive(Clone, Debug)]
pub struct Top<W> {
    capacity: usize,
    entries: Vec<Entry<W>>,
    index: HashMap<u64, usize, BuildHasherDefault<AsIs>>,
    floor: u64,
    /// Entries that had the lowest count when it was last looked for.
    lowest: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<W> {
    pub hash: u64,
    pub who: W,
    pub count: u64,
    pub error: u64,
}

impl<W: Clone> Top<W> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: Vec::new(), index: HashMap::default(), floor: 0, lowest: Vec::new() }
    }

    pub fn add(&mut self, hash: u64, who: impl FnOnce() -> W) {
        if let Some(at) = self.index.get(&hash) {
            self.entries[*at].count += 1;
        } else if self.entries.len() < self.capacity {
            self.push(Entry { hash, who: who(), count: 1 + self.floor, error: self.floor });
        } else {
            let at = self.lowest();
            let count = self.entries[at].count;
            self.floor = self.floor.max(count);
            self.index.remove(&self.entries[at].hash);
            self.index.insert(hash, at);
            self.entries[at] = Entry { hash, who: who(), count: count + 1, error: count };
        }
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        // Each may have counted as much of whom only the other lists.
        for entry in &mut self.entries {
            if !other.index.contains_key(&entry.hash) {
                entry.count += other.floor;
                entry.error += other.floor;
            }
        }
        for entry in &other.entries {
            match self.index.get(&entry.hash) {
                Some(at) => {
                    self.entries[*at].count += entry.count;
                    self.entries[*at].error += entry.error;
                }
                None => self.push(Entry {
                    count: entry.count + self.floor,
                    error: entry.error + self.floor,
                    ..entry.clone()
                }),
            }
        }
        self.floor += other.floor;
        self.shrink(self.capacity);
    }

    /// Keeps only so many, those that came most often.
    pub fn shrink(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.lowest.clear();
        if self.entries.len() <= capacity {
            return;
        }
        self.entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.count));
        self.floor = self.floor.max(self.entries[capacity].count);
        self.entries.truncate(capacity);
        self.entries.shrink_to_fit();
        self.index = self.entries.iter().enumerate().map(|(at, entry)| (entry.hash, at)).collect();
    }

    /// In no order.
    pub fn entries(&self) -> &[Entry<W>] {
        &self.entries
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    fn push(&mut self, entry: Entry<W>) {
        self.index.insert(entry.hash, self.entries.len());
        self.entries.push(entry);
    }

    /// An entry with the lowest count. They are looked for together: who comes seldom comes in numbers.
    fn lowest(&mut self) -> usize {
        loop {
            let lowest = self.floor;
            while let Some(at) = self.lowest.pop() {
                if self.entries[at].count == lowest {
                    return at;
                }
            }
            self.floor = self.entries.iter().map(|entry| entry.count).min().unwrap_or_default();
            self.lowest.extend((0..self.entries.len()).filter(|at| self.entries[*at].count == self.floor));
            if self.lowest.is_empty() {
                return 0;
            }
        }
    }
}

/// Odd, and its bits are in no order.
pub const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes are hashed already.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    /// Numbers that follow one another: spread over all bits.
    fn write_usize(&mut self, number: usize) {
        self.0 = (number as u64 + 1).wrapping_mul(SPREAD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(top: &Top<u64>, comers: &[u64]) -> Result<(), proptest::test_runner::TestCaseError> {
        for who in 0..40 {
            let came = comers.iter().filter(|own| **own == who).count() as u64;
            match top.entries().iter().find(|entry| entry.who == who) {
                Some(entry) => {
                    proptest::prop_assert!(entry.count >= came && entry.count - entry.error <= came, "{who}: {entry:?}")
                }
                None => proptest::prop_assert!(came <= top.floor(), "{who} came {came} times"),
            }
        }
        Ok(())
    }

    proptest::proptest! {
        #[test]
        fn counts_are_as_good_as_they_say(
            one in proptest::collection::vec(0..40_u64, 0..400),
            other in proptest::collection::vec(0..40_u64, 0..400),
            capacity in 1..50_usize,
        ) {
            let of = |comers: &[u64]| {
                let mut top = Top::new(capacity);
                comers.iter().for_each(|who| top.add(*who, || *who));
                top
            };
            let (mut first, second) = (of(&one), of(&other));
            check(&first, &one)?;
            proptest::prop_assert!(first.entries().len() <= capacity);
            proptest::prop_assert!(first.floor() <= one.len() as u64 / capacity as u64 + 1);
            first.merge(&second);
            let both = [one, other].concat();
            check(&first, &both)?;
            first.shrink(capacity / 2 + 1);
            check(&first, &both)?;
        }
    }
}
