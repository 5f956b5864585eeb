//! Whoever asks for what is being fetched already waits for it. There is no lock and no queue: all who wait are woken at
//! once when it is there, and when it won't be.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::key::{Hashed, Key};

/// So that cores rarely meet.
const SHARDS: usize = 64;

type Shard<T> = Mutex<HashMap<Key, watch::Receiver<Option<T>>, Hashed>>;

/// What is being fetched. `T` is what becomes of it.
pub struct Flights<T>(Arc<[Shard<T>]>);

/// What an asker is to do.
pub enum Turn<T> {
    /// Fetch it, and say what became of it.
    Lead(Lead<T>),
    /// Wait for who fetches it.
    Follow(watch::Receiver<Option<T>>),
}

/// The right to fetch. Where it is dropped without a word, one of those who wait takes over.
pub struct Lead<T> {
    flights: Flights<T>,
    key: Key,
    told: watch::Sender<Option<T>>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl<T> Flights<T> {
    pub fn join(&self, key: &Key) -> Turn<T> {
        let mut shard = self.shard(key).lock();
        if let Some(flight) = shard.get(key) {
            return Turn::Follow(flight.clone());
        }
        let (told, flight) = watch::channel(None);
        shard.insert(key.clone(), flight);
        Turn::Lead(Lead { flights: Self(Arc::clone(&self.0)), key: key.clone(), told })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, key: &Key) -> &Shard<T> {
        #[expect(clippy::cast_possible_truncation, reason = "only the lowest bits count")]
        &self.0[key.hash() as usize % SHARDS]
    }
}

impl<T> Lead<T> {
    /// Whether anybody waits.
    pub fn is_awaited(&self) -> bool {
        // One of them is the table's own.
        self.told.receiver_count() > 1
    }

    /// Tells all who wait. Who asks from now on finds what is kept, or leads.
    pub fn tell(self, outcome: T) {
        self.told.send_replace(Some(outcome));
    }
}

impl<T> Drop for Lead<T> {
    fn drop(&mut self) {
        self.flights.shard(&self.key).lock().remove(&self.key);
    }
}

/// What became of it; None: nothing, it is to be asked for again.
pub async fn landed<T: Clone>(mut flight: watch::Receiver<Option<T>>) -> Option<T> {
    match flight.wait_for(Option::is_some).await {
        Ok(told) => told.clone(),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_leads_and_all_are_told() {
        let flights = Flights::default();
        let key = Key::new(&[b"a"]);
        let Turn::Lead(lead) = flights.join(&key) else { panic!("nobody else asks") };
        let followers: Vec<_> = (0..100)
            .map(|_| match flights.join(&key) {
                Turn::Follow(flight) => flight,
                Turn::Lead(_) => panic!("it is being fetched"),
            })
            .collect();
        assert!(matches!(flights.join(&Key::new(&[b"b"])), Turn::Lead(_)));
        lead.tell(7);
        for follower in followers {
            assert_eq!(landed(follower).await, Some(7));
        }
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn where_the_leader_leaves_another_leads() {
        let flights = Flights::<u8>::default();
        let key = Key::new(&[b"a"]);
        let Turn::Lead(lead) = flights.join(&key) else { panic!("nobody else asks") };
        let Turn::Follow(follower) = flights.join(&key) else { panic!("it is being fetched") };
        drop(lead);
        assert_eq!(landed(follower).await, None);
        assert!(matches!(flights.join(&key), Turn::Lead(_)));
    }
}
