//! What was verified need not be verified again while it is good.

use std::collections::HashMap;

use parking_lot::Mutex;
use time::OffsetDateTime;

use crate::{LIFETIME, Principal};

/// The most entries of a generation.
const CAPACITY: usize = 5_000;

/// Verified tokens, in two generations: when the young one is full, or older than any of its tokens can be good for, it
/// becomes the old one and what was the old one is forgotten. So memory is bounded and nothing is ever searched for
/// what to evict.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<String, Entry>,
    old: HashMap<String, Entry>,
    /// When the young generation began, in seconds since 1970.
    since: i64,
}

#[derive(Clone)]
struct Entry {
    principal: Principal,
    /// In seconds since 1970.
    until: i64,
}

impl Cache {
    pub fn get(&self, token: &str, now: OffsetDateTime) -> Option<Principal> {
        let generations = self.0.lock();
        let entry = generations.young.get(token).or_else(|| generations.old.get(token))?;
        (now.unix_timestamp() < entry.until).then(|| entry.principal.clone())
    }

    pub fn insert(&self, token: &str, principal: Principal, until: i64, now: OffsetDateTime) {
        let now = now.unix_timestamp();
        let mut generations = self.0.lock();
        if generations.young.len() >= CAPACITY || now - generations.since > LIFETIME.whole_seconds() {
            generations.old = std::mem::take(&mut generations.young);
            generations.since = now;
        }
        generations.young.insert(token.to_owned(), Entry { principal, until });
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.0.lock();
        generations.young.len() + generations.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_ends_with_its_token() {
        let cache = Cache::default();
        let now = OffsetDateTime::from_unix_timestamp(1_000).unwrap();
        cache.insert("token", Principal::default(), 1_060, now);
        assert!(cache.get("token", now).is_some());
        assert!(cache.get("token", now + time::Duration::seconds(60)).is_none());
    }

    #[test]
    fn a_flood_of_tokens_stays_within_two_generations() {
        let cache = Cache::default();
        let now = OffsetDateTime::from_unix_timestamp(1_000).unwrap();
        for n in 0..3 * CAPACITY {
            cache.insert(&n.to_string(), Principal::default(), 1_060, now);
        }
        assert!(cache.len() <= 2 * CAPACITY);
        assert!(cache.get(&(3 * CAPACITY - 1).to_string(), now).is_some());
    }
}
