//! Where answers are kept: in this process, shared by all cores, within so many bytes. What is asked for least goes first.
//!
//! A hit takes a read lock of one of many shards and copies no body. Whatever is taken out is asked whether it was purged
//! since it was fetched (`marks`), so that a purge counts at once, also for what is on its way.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache};

use super::{
    Bounds, Freshness, Key, Mark, Moment,
    answer::{Resource, Stored},
    flight::{Flights, Turn, landed},
    following::{Following, Standing},
    key::Hashed,
    marks::{Marks, Stamp},
    vary::Selected,
};
use crate::{error::Error, metrics::METRICS};

/// The most answers of one target that are kept.
const VARIANTS: usize = 32;
/// The largest part of the whole that one shard must be able to hold a few of.
const OBJECTS_A_SHARD: u64 = 8;
/// For estimates only.
const USUAL_ANSWER: u64 = 4 * 1024;
/// How long a target's answers are not waited for, once they were none to keep.
const PASSES: Duration = Duration::from_secs(2);

pub struct Store {
    kept: Cache<Key, Arc<Resource>, Weigh, Hashed, Evictions>,
    /// One who changes what is kept of a target at a time.
    turns: Box<[Mutex<()>]>,
    marks: Marks,
    pub flights: Flights<Landed>,
    /// Where purges come from.
    pub(super) following: Following,
    evicted: Arc<AtomicU64>,
    purged: AtomicU64,
    size: AtomicU64,
    object: AtomicU64,
    /// What answers on their way to their first clients may take up.
    coming: AtomicU64,
}

/// What an answer may take up that is kept while it is on its way to its first client.
pub struct Room {
    store: Arc<Store>,
    object: usize,
    bytes: u64,
}

/// What became of what was fetched.
#[derive(Clone)]
pub enum Landed {
    Kept(Arc<Stored>),
    /// It is stale, and all there is.
    StandsIn(Arc<Stored>),
    /// Everybody is to fetch it for himself.
    Passed,
    /// It would not go otherwise for anybody.
    Failed(Arc<dyn Fn() -> Error + Send + Sync>),
}

/// What an aggregated answer is made of, with what purges it.
pub struct Part {
    pub body: Bytes,
    pub tags: Vec<Mark>,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Key, Arc<Resource>> for Weigh {
    fn weight(&self, key: &Key, resource: &Arc<Resource>) -> u64 {
        (key.len() + resource.weight()) as u64
    }
}

#[derive(Clone)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Key, Arc<Resource>> for Evictions {
    // What goes is freed after the lock.
    type RequestState = Vec<Arc<Resource>>;

    fn on_evict(&self, state: &mut Self::RequestState, _: Key, resource: Arc<Resource>) {
        self.0.fetch_add(1, Relaxed);
        METRICS.cache_evicted();
        state.push(resource);
    }
}

/// What operators see.
#[derive(Debug, serde::Serialize)]
pub struct Figures {
    /// Targets of which something is kept.
    pub targets: usize,
    pub bytes: u64,
    pub most_bytes: u64,
    pub largest_answer: u64,
    /// Targets dropped for want of room.
    pub evicted: u64,
    pub purges: u64,
    /// What is being fetched now.
    pub fetching: usize,
}

impl Store {
    pub fn new(bounds: Bounds) -> Self {
        let Bounds { size, object } = bounds;
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let shards = (size / (OBJECTS_A_SHARD * object.max(1))).clamp(1, 4 * cores);
        let evicted = Arc::new(AtomicU64::new(0));
        let options = OptionsBuilder::new()
            .shards(usize::try_from(shards).unwrap_or(1).next_power_of_two().max(2) / 2)
            .weight_capacity(size)
            .estimated_items_capacity(usize::try_from(size / USUAL_ANSWER).unwrap_or(usize::MAX).max(32))
            .build();
        #[expect(clippy::expect_used, reason = "both numbers the builder asks for are given")]
        let options = options.expect("capacities are given");
        Self {
            kept: Cache::with_options(options, Weigh, Hashed::default(), Evictions(Arc::clone(&evicted))),
            turns: (0..64).map(|_| Mutex::default()).collect(),
            marks: Marks::default(),
            flights: Flights::default(),
            following: Following::default(),
            evicted,
            purged: AtomicU64::new(0),
            size: AtomicU64::new(size),
            object: AtomicU64::new(object),
            coming: AtomicU64::new(0),
        }
    }

    /// Room for an answer of this length on its way to its first client, who may be slow. None: there is as much on its way
    /// as may be kept.
    pub fn room(self: &Arc<Self>, length: Option<u64>) -> Option<Room> {
        let object = self.object.load(Relaxed);
        // Once for the client, once to be kept.
        let bytes = length.unwrap_or(object).min(object) * 2;
        let most = self.size.load(Relaxed);
        let taken =
            self.coming.fetch_update(Relaxed, Relaxed, |coming| Some(coming + bytes).filter(|all| *all <= most));
        taken.ok().map(|_| Room { store: Arc::clone(self), object: self.object(), bytes })
    }

    /// Takes other bounds up. What is kept stays, as far as there is room.
    pub fn resize(&self, bounds: Bounds) {
        self.object.store(bounds.object, Relaxed);
        if self.size.swap(bounds.size, Relaxed) != bounds.size {
            self.kept.set_capacity(bounds.size);
        }
    }

    /// The largest body that is kept.
    pub fn object(&self) -> usize {
        usize::try_from(self.object.load(Relaxed)).unwrap_or(usize::MAX)
    }

    /// To be taken before anything is fetched that may be kept.
    pub fn stamp(&self) -> Stamp {
        self.marks.stamp()
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Resource>> {
        self.kept.get(key)
    }

    /// Whether it was not purged since it was fetched, nor could have been without anybody's knowing.
    pub fn stands(&self, stored: &Stored, now: Moment) -> bool {
        self.marks.stand(stored.stamp, &stored.marks)
            && (!stored.by_events || self.following.vouches_for(stored.freshness.received, now))
    }

    /// Whether nothing was purged by its target's name since it was fetched: such a purge finds only what is kept.
    pub fn is_untouched(&self, stored: &Stored) -> bool {
        self.marks.may_keep(stored.stamp)
    }

    /// Keeps an answer in the place of the one for the same requests, if there is one.
    pub fn put(&self, key: &Key, stored: Arc<Stored>) {
        if stored.body.len() > self.object() || !self.marks.may_keep(stored.stamp) {
            return;
        }
        let stamp = stored.stamp;
        self.change(key, |resource| {
            resource.passes = None;
            resource
                .variants
                .retain(|other| self.marks.stand(other.stamp, &other.marks) && other.selected != stored.selected);
            if resource.variants.len() >= VARIANTS {
                resource.variants.remove(0);
            }
            resource.variants.push(stored);
        });
        // A purge by key that came meanwhile has gone past it.
        if !self.marks.may_keep(stamp) {
            self.kept.remove(key);
        }
    }

    /// Notes that the target's answers are none to keep: nobody is to wait for them for a while.
    pub fn pass(&self, key: &Key, now: Moment) {
        self.change(key, |resource| resource.passes = Some(now.plus(PASSES)));
    }

    /// Forgets one answer.
    pub fn forget(&self, key: &Key, gone: &Arc<Stored>) {
        self.change(key, |resource| resource.variants.retain(|stored| !Arc::ptr_eq(stored, gone)));
    }

    fn change(&self, key: &Key, change: impl FnOnce(&mut Resource)) {
        #[expect(clippy::cast_possible_truncation, reason = "only the lowest bits count")]
        let _turn = self.turns[key.hash() as usize % self.turns.len()].lock();
        let mut resource = self.kept.peek(key).map_or_else(Resource::default, |before| (*before).clone());
        change(&mut resource);
        if resource.variants.is_empty() && resource.passes.is_none() {
            self.kept.remove(key);
        } else {
            self.kept.insert(key.clone(), Arc::new(resource));
        }
        METRICS.cache_bytes(self.kept.weight());
    }

    /// Purges everything with a tag, and everything of a target.
    pub fn purge(&self, mark: Mark) {
        self.marks.purge(mark);
        self.purged.fetch_add(1, Relaxed);
    }

    pub fn purge_all(&self) {
        self.marks.purge_all();
        self.purged.fetch_add(1, Relaxed);
        self.kept.clear();
    }

    /// Purges all whose target begins with a text: `https://api.example/things/`. Returns how many targets that were.
    pub fn purge_prefix(&self, prefix: &str) -> usize {
        self.marks.spoil();
        self.purged.fetch_add(1, Relaxed);
        let count = AtomicU64::new(0);
        self.kept.retain(|key, _| {
            let goes = key.part(2).is_some_and(|target| target.starts_with(prefix.as_bytes()));
            count.fetch_add(goes.into(), SeqCst);
            !goes
        });
        usize::try_from(count.load(SeqCst)).unwrap_or(usize::MAX)
    }

    /// Where purges come from, and whether they are heard.
    pub fn standing(&self) -> Standing {
        self.following.standing()
    }

    pub fn figures(&self) -> Figures {
        Figures {
            targets: self.kept.len(),
            bytes: self.kept.weight(),
            most_bytes: self.size.load(Relaxed),
            largest_answer: self.object.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            purges: self.purged.load(Relaxed),
            fetching: self.flights.len(),
        }
    }

    /// What is kept under a key and no older than `ttl`, else what `fetch` brings, which is kept for so long, or until one
    /// of its tags is purged. Many who ask at once wait for the first; where that one fails, each goes for itself.
    ///
    /// # Errors
    /// What `fetch` fails with.
    pub async fn get_or_fetch<E>(
        &self,
        key: Key,
        ttl: Duration,
        fetch: impl Future<Output = Result<Part, E>>,
    ) -> Result<Bytes, E> {
        let mut lead = None;
        // Whoever comes next may leave, too.
        for _ in 0..3 {
            if let Some(body) = self.part(&key) {
                return Ok(body);
            }
            match self.flights.join(&key) {
                Turn::Lead(turn) => {
                    // It may have landed since we looked.
                    if let Some(body) = self.part(&key) {
                        return Ok(body);
                    }
                    lead = Some(turn);
                    break;
                }
                Turn::Follow(flight) => match landed(flight).await {
                    Some(Landed::Kept(stored)) if self.stands(&stored, Moment::now()) => {
                        return Ok(stored.body.clone());
                    }
                    Some(Landed::Passed | Landed::Failed(_)) => break,
                    Some(Landed::Kept(_) | Landed::StandsIn(_)) | None => {}
                },
            }
        }
        let stamp = self.stamp();
        let fetched = fetch.await;
        let Part { body, tags } = match fetched {
            Ok(part) => part,
            Err(error) => {
                if let Some(lead) = lead {
                    lead.tell(Landed::Passed);
                }
                return Err(error);
            }
        };
        let stored = Arc::new(Stored {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body.clone(),
            freshness: Freshness::of(ttl, Moment::now()),
            selected: Selected::default(),
            stamp,
            by_events: !tags.is_empty(),
            marks: tags.into(),
        });
        self.put(&key, Arc::clone(&stored));
        if let Some(lead) = lead {
            lead.tell(Landed::Kept(stored));
        }
        Ok(body)
    }

    fn part(&self, key: &Key) -> Option<Bytes> {
        let (resource, now) = (self.get(key)?, Moment::now());
        let stored = resource.variants.first()?;
        let good = stored.freshness.age_at(now) < stored.freshness.lifetime && self.stands(stored, now);
        good.then(|| stored.body.clone())
    }
}

impl Room {
    /// The largest body that is kept.
    pub fn object(&self) -> usize {
        self.object
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.store.coming.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::atomic::AtomicUsize};

    use tokio::sync::Semaphore;

    use super::*;

    const MIB: u64 = 1 << 20;
    const LONG: Duration = Duration::from_secs(3600);

    fn store(size: u64) -> Arc<Store> {
        Arc::new(Store::new(Bounds { size, object: MIB }))
    }

    fn key(name: &str) -> Key {
        Key::new(&[b"part", b"", name.as_bytes()])
    }

    async fn fetch(store: &Store, name: &str, body: &'static [u8], tags: Vec<Mark>) -> Bytes {
        let fetch = async { Ok::<_, Infallible>(Part { body: Bytes::from_static(body), tags }) };
        store.get_or_fetch(key(name), LONG, fetch).await.unwrap()
    }

    #[tokio::test]
    async fn a_tag_purges_what_carries_it_and_nothing_else() {
        let (store, tag) = (store(8 * MIB), Mark::of_tag("things:1"));
        assert_eq!(fetch(&store, "a", b"1", vec![tag]).await, "1");
        assert_eq!(fetch(&store, "b", b"1", vec![Mark::of_tag("things:2")]).await, "1");
        assert_eq!(fetch(&store, "a", b"2", vec![tag]).await, "1");
        store.purge(tag);
        assert_eq!(
            (fetch(&store, "a", b"2", vec![tag]).await, fetch(&store, "b", b"2", vec![]).await),
            ("2".into(), "1".into())
        );
        store.purge_all();
        assert_eq!(
            (fetch(&store, "a", b"3", vec![]).await, fetch(&store, "b", b"3", vec![]).await),
            ("3".into(), "3".into())
        );
    }

    #[tokio::test]
    async fn what_was_fetched_before_a_purge_is_not_kept_after_it() {
        for purge in [(|store: &Store| store.purge(Mark::of_tag("t"))) as fn(&Store), Store::purge_all, |store| {
            _ = store.purge_prefix("a");
        }] {
            let (store, begun, go) = (store(8 * MIB), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
            let (own, started, leave) = (Arc::clone(&store), Arc::clone(&begun), Arc::clone(&go));
            let slow = tokio::spawn(async move {
                let fetch = async move {
                    started.add_permits(1);
                    leave.acquire().await.unwrap().forget();
                    Ok::<_, Infallible>(Part { body: Bytes::from_static(b"old"), tags: vec![Mark::of_tag("t")] })
                };
                own.get_or_fetch(key("a"), LONG, fetch).await.unwrap()
            });
            begun.acquire().await.unwrap().forget();
            purge(&store);
            go.add_permits(1);
            assert_eq!(slow.await.unwrap(), "old", "it was asked for before");
            assert_eq!(fetch(&store, "a", b"new", vec![]).await, "new");
        }
    }

    #[tokio::test]
    async fn a_stampede_fetches_once() {
        let (store, calls, go) = (store(8 * MIB), Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let asking: Vec<_> = (0..10_000)
            .map(|_| {
                let (store, calls, go) = (Arc::clone(&store), Arc::clone(&calls), Arc::clone(&go));
                tokio::spawn(async move {
                    let fetch = async {
                        calls.fetch_add(1, SeqCst);
                        go.acquire().await.unwrap().forget();
                        Ok::<_, Infallible>(Part { body: Bytes::from_static(b"x"), tags: vec![] })
                    };
                    store.get_or_fetch(key("a"), LONG, fetch).await.unwrap()
                })
            })
            .collect();
        tokio::task::yield_now().await;
        go.add_permits(1);
        for asked in asking {
            assert_eq!(asked.await.unwrap(), "x");
        }
        assert_eq!(calls.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn however_much_is_put_in_it_stays_within_its_bytes() {
        let store = store(4 * MIB);
        for n in 0..20_000_u32 {
            let size = (n as usize * 7919) % 5_000;
            let fetch =
                async { Ok::<_, Infallible>(Part { body: vec![0; size].into(), tags: vec![Mark::of_tag("t")] }) };
            store.get_or_fetch(key(&n.to_string()), LONG, fetch).await.unwrap();
            let figures = store.figures();
            assert!(figures.bytes <= 4 * MIB, "{figures:?}");
        }
        let figures = store.figures();
        assert!(figures.evicted > 10_000 && figures.targets > 500, "{figures:?}");
        store.resize(Bounds { size: MIB, object: MIB });
        assert!(store.figures().bytes <= MIB, "{:?}", store.figures());
        store.purge_all();
        assert_eq!((store.figures().targets, store.figures().bytes), (0, 0));
    }

    #[test]
    fn no_more_is_on_its_way_than_may_be_kept() {
        let store = store(4 * MIB);
        let (one, other) = (store.room(None).unwrap(), store.room(Some(9 * MIB)).unwrap());
        assert!(store.room(Some(1)).is_none(), "each takes up twice the largest that is kept");
        drop(one);
        assert!(store.room(Some(MIB)).is_some() && store.room(Some(1)).is_some());
        drop(other);
        assert_eq!(store.coming.load(SeqCst), 0);
    }

    #[tokio::test]
    async fn what_fails_is_not_kept_and_fails_for_whoever_asked_alone() {
        let store = store(MIB);
        let failed = store.get_or_fetch(key("a"), LONG, async { Err::<Part, _>("no") }).await;
        assert_eq!(failed, Err("no"));
        assert_eq!(fetch(&store, "a", b"x", vec![]).await, "x");
    }
}
