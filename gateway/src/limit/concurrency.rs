//! How many requests of a key may be under way at once.
//!
//! There are never more keys than requests under way, and those have bounds of their own: nothing has to be forgotten.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Key;

const SHARDS: usize = 16;

/// `concurrency: { requests: 10, key: principal }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Concurrency")]
pub struct Config {
    /// Requests of one key that may be under way, until the last byte of their answers; 1 and above.
    pub requests: NonZeroU32,
    /// As of a rate limit: `principal`, `[client_address, route]`, …
    pub key: Key,
}

pub struct Concurrency {
    pub config: Config,
    shards: Box<[Mutex<HashMap<u128, u32>>]>,
    hasher: RandomState,
    refused: AtomicU64,
}

/// A request that is under way, for as long as this lives.
pub struct Permit {
    concurrency: Arc<Concurrency>,
    key: u128,
}

impl Concurrency {
    pub fn new(config: &Config) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { config: config.clone(), shards, hasher: RandomState::new(), refused: AtomicU64::new(0) }
    }

    /// None if as many are under way as may be.
    pub fn admit(self: &Arc<Self>, key: u128) -> Option<Permit> {
        let mut under_way = self.shard(key).lock();
        let count = under_way.entry(key).or_insert(0);
        if *count >= self.config.requests.get() {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        *count += 1;
        Some(Permit { concurrency: Arc::clone(self), key })
    }

    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Requests under way, of all keys, and of the one that has most.
    pub fn under_way(&self) -> (u64, u32) {
        self.shards.iter().fold((0, 0), |(all, most), shard| {
            let shard = shard.lock();
            let sum: u64 = shard.values().copied().map(u64::from).sum();
            (all + sum, most.max(shard.values().copied().max().unwrap_or(0)))
        })
    }

    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn shard(&self, key: u128) -> &Mutex<HashMap<u128, u32>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut under_way = self.concurrency.shard(self.key).lock();
        if let Some(count) = under_way.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_so_many_at_once_and_is_forgotten_with_the_last() {
        let config = serde_saphyr::from_str("{requests: 2, key: principal}").unwrap();
        let concurrency = Arc::new(Concurrency::new(&config));
        let (first, second) = (concurrency.admit(1), concurrency.admit(1));
        assert!(first.is_some() && second.is_some() && concurrency.admit(1).is_none());
        let other = concurrency.admit(2);
        assert!(other.is_some(), "another key");
        assert_eq!((concurrency.keys(), concurrency.under_way(), concurrency.refused()), (2, (3, 2), 1));
        drop(first);
        let third = concurrency.admit(1);
        assert!(third.is_some());
        drop((second, third, other));
        assert_eq!((concurrency.keys(), concurrency.under_way()), (0, (0, 0)));
    }
}
