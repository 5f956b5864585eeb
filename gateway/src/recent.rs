//! A bounded map shared by all cores, which forgets what was not used for longest. Split into shards, so that cores seldom
//! meet at a lock; the bound holds for each shard's part of the keys.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
};

use parking_lot::Mutex;

const SHARDS: usize = 32;
/// No slot: the end of a list.
const NONE: usize = usize::MAX;

pub struct Recent<K, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
}

/// A hash map whose entries also form a list, the most recently used first. Slots have no gaps: the last one moves into
/// the place of one that is removed.
struct Shard<K, V> {
    capacity: usize,
    index: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    newest: usize,
    oldest: usize,
}

struct Slot<K, V> {
    key: K,
    value: V,
    newer: usize,
    older: usize,
}

impl<K: Hash + Eq + Copy, V> Recent<K, V> {
    /// A map of at most about `capacity` entries, at least one a shard.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.div_ceil(SHARDS).max(1);
        Self { shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(capacity))).collect(), hasher: RandomState::new() }
    }

    /// Runs `visit` on the value of a key, made first if it is not there. The shard is locked meanwhile.
    pub fn with<R>(&self, key: K, make: impl FnOnce() -> V, visit: impl FnOnce(&mut V) -> R) -> R {
        let mut shard = self.shard(&key).lock();
        let slot = match shard.touch(&key) {
            Some(slot) => slot,
            None => shard.insert(key, make()),
        };
        visit(&mut shard.slots[slot].value)
    }

    /// The same for a key that must be there already.
    pub fn get<R>(&self, key: &K, visit: impl FnOnce(&mut V) -> R) -> Option<R> {
        let mut shard = self.shard(key).lock();
        let slot = shard.touch(key)?;
        Some(visit(&mut shard.slots[slot].value))
    }

    /// The same without making it the most recently used.
    pub fn peek<R>(&self, key: &K, visit: impl FnOnce(&V) -> R) -> Option<R> {
        let shard = self.shard(key).lock();
        let slot = *shard.index.get(key)?;
        Some(visit(&shard.slots[slot].value))
    }

    /// Visits all there is, in no order; a shard is locked at a time.
    pub fn each(&self, mut visit: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            shard.lock().slots.iter().for_each(|slot| visit(&slot.key, &slot.value));
        }
    }

    pub fn insert(&self, key: K, value: V) {
        let mut shard = self.shard(&key).lock();
        match shard.touch(&key) {
            Some(slot) => shard.slots[slot].value = value,
            None => _ = shard.insert(key, value),
        }
    }

    pub fn remove(&self, key: &K) -> Option<V> {
        let mut shard = self.shard(key).lock();
        let slot = *shard.index.get(key)?;
        Some(shard.remove(slot))
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().slots.len()).sum()
    }

    fn shard(&self, key: &K) -> &Mutex<Shard<K, V>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl<K: Hash + Eq + Copy, V> Shard<K, V> {
    fn new(capacity: usize) -> Self {
        Self { capacity, index: HashMap::new(), slots: Vec::new(), newest: NONE, oldest: NONE }
    }

    /// Finds a key and makes it the most recently used.
    fn touch(&mut self, key: &K) -> Option<usize> {
        let slot = *self.index.get(key)?;
        if slot != self.newest {
            self.unlink(slot);
            self.link(slot);
        }
        Some(slot)
    }

    fn insert(&mut self, key: K, value: V) -> usize {
        if self.slots.len() >= self.capacity {
            self.remove(self.oldest);
        }
        let slot = self.slots.len();
        self.slots.push(Slot { key, value, newer: NONE, older: NONE });
        self.index.insert(key, slot);
        self.link(slot);
        slot
    }

    fn remove(&mut self, slot: usize) -> V {
        self.unlink(slot);
        let last = self.slots.len() - 1;
        if slot != last {
            self.redirect(last, slot);
        }
        let removed = self.slots.swap_remove(slot);
        self.index.remove(&removed.key);
        removed.value
    }

    /// Has everything that names the slot `from` name `to`.
    fn redirect(&mut self, from: usize, to: usize) {
        let Slot { key, newer, older, .. } = self.slots[from];
        self.index.insert(key, to);
        match newer {
            NONE => self.newest = to,
            newer => self.slots[newer].older = to,
        }
        match older {
            NONE => self.oldest = to,
            older => self.slots[older].newer = to,
        }
    }

    fn link(&mut self, slot: usize) {
        self.slots[slot].newer = NONE;
        self.slots[slot].older = self.newest;
        match self.newest {
            NONE => self.oldest = slot,
            newest => self.slots[newest].newer = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: usize) {
        let (newer, older) = (self.slots[slot].newer, self.slots[slot].older);
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older].newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_shard_keeps_the_most_recently_used(steps in proptest::collection::vec((0_u8..12, 0_u8..3), 0..200)) {
            let mut shard = Shard::new(5);
            // The model: keys, the most recently used last.
            let mut model: Vec<u8> = Vec::new();
            for (key, step) in steps {
                let known = model.iter().position(|own| *own == key);
                match step {
                    0 => match shard.touch(&key) {
                        Some(_) => { let at = known.unwrap(); model.remove(at); model.push(key); }
                        None => {
                            proptest::prop_assert_eq!(known, None);
                            shard.insert(key, u32::from(key));
                            model.push(key);
                            if model.len() > 5 { model.remove(0); }
                        }
                    },
                    1 => {
                        proptest::prop_assert_eq!(shard.touch(&key).is_some(), known.is_some());
                        if let Some(at) = known { model.remove(at); model.push(key); }
                    }
                    _ => if let Some(slot) = shard.index.get(&key).copied() {
                        proptest::prop_assert_eq!(shard.remove(slot), u32::from(key));
                        model.remove(known.unwrap());
                    },
                }
                let mut order = Vec::new();
                let mut slot = shard.oldest;
                while slot != NONE {
                    order.push(shard.slots[slot].key);
                    proptest::prop_assert_eq!(shard.index.get(&shard.slots[slot].key), Some(&slot));
                    slot = shard.slots[slot].newer;
                }
                proptest::prop_assert_eq!(&order, &model);
                proptest::prop_assert_eq!(shard.slots.len(), model.len());
            }
        }
    }

    #[test]
    fn the_bound_holds() {
        let map = Recent::new(320);
        for key in 0..10_000_u128 {
            map.insert(key, ());
        }
        assert_eq!(map.len(), 320);
        assert!(map.get(&9_999, |_| ()).is_some());
        assert!(map.remove(&9_999).is_some());
        assert!(map.get(&9_999, |_| ()).is_none());
    }
}
