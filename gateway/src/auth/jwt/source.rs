//! Where an issuer's keys come from, and how old they may be. A task of its own keeps them fresh; requests read what is
//! there. Only one whose key is not there waits, and only while a fetch is under way that may bring it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{KeySet, fetch::Fetcher};
use crate::{auth::keys::digest, config::Jwt, metrics::METRICS, recent::Recent};

/// Names of keys that an issuer was found not to have, and for how long they are taken for unknown without asking it.
const STRANGERS: usize = 1_000;
const STRANGE_FOR: Duration = Duration::from_secs(60);
/// After a fetch that failed the next one is tried this much later, twice as much each time.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// The most that a request waits for keys.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// The keys of one issuer.
pub struct Source {
    pub issuer: String,
    /// None: they are from a file, and as fresh as that.
    fetcher: Option<Fetcher>,
    refresh: Duration,
    stale: Duration,
    cooldown: Duration,
    held: ArcSwapOption<Held>,
    /// Of the keys that are held. Cached tokens ask for it with every request: it costs less than the keys.
    version: AtomicU64,
    /// Rises with each fetch that has ended, well or not.
    rounds: watch::Sender<u64>,
    /// Somebody needs a key that isn't there.
    wanted: Notify,
    asking: Mutex<Asking>,
    strangers: Recent<[u8; 32], Instant>,
    status: Mutex<Status>,
}

/// Keys, as they came.
pub struct Held {
    pub keys: KeySet,
    /// Rises with each set that is another than the one before.
    pub version: u64,
    /// Of the document.
    digest: [u8; 32],
    at: Instant,
}

/// How often the issuer is asked for keys that it didn't have.
#[derive(Default)]
struct Asking {
    last: Option<Instant>,
    under_way: bool,
}

/// For operators.
#[derive(Clone, Default)]
pub struct Status {
    pub fetched: Option<OffsetDateTime>,
    pub next: Option<OffsetDateTime>,
    pub error: Option<String>,
}

/// What can be had of the keys.
pub enum Standing {
    Good(Arc<Held>),
    /// The first fetch is under way.
    Expected,
    /// There were none yet, or what there was is too old.
    Missing,
}

impl Held {
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

impl Source {
    pub fn fetched(rules: &Jwt, fetcher: Fetcher) -> Self {
        Self::new(rules, Some(fetcher))
    }

    pub fn fixed(rules: &Jwt, keys: KeySet, document: &[u8]) -> Self {
        let source = Self::new(rules, None);
        source.take(keys, document);
        source
    }

    fn new(rules: &Jwt, fetcher: Option<Fetcher>) -> Self {
        Self {
            issuer: rules.issuer.clone(),
            fetcher,
            refresh: rules.refresh,
            stale: rules.stale,
            cooldown: rules.unknown_key_cooldown,
            held: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            rounds: watch::Sender::new(0),
            wanted: Notify::new(),
            asking: Mutex::default(),
            strangers: Recent::new(STRANGERS),
            status: Mutex::default(),
        }
    }

    /// Takes over the keys of a source that it takes the place of, as old as they are: those of an issuer that is away now
    /// outlive a change of its other rules.
    pub fn inherit(&self, previous: &Self) {
        if let Some(held) = previous.held.load_full() {
            self.version.store(held.version, Relaxed);
            self.held.store(Some(held));
            self.status.lock().fetched = previous.status().fetched;
        }
    }

    /// Tells the sets apart: what was verified by one need not hold by the next.
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    pub fn standing(&self) -> Standing {
        match self.held.load_full() {
            Some(held) if self.fetcher.is_none() || held.at.elapsed() < self.stale => Standing::Good(held),
            None if *self.rounds.borrow() == 0 => Standing::Expected,
            _ => Standing::Missing,
        }
    }

    pub fn held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Has the issuer asked for a key that isn't there, unless it was just asked. None: it isn't worth the wait. Otherwise
    /// what to wait for, with [`Source::wait`].
    pub fn want(&self, key: Option<&str>) -> Option<watch::Receiver<u64>> {
        self.fetcher.as_ref()?;
        // Before it is asked: a round that ends meanwhile counts.
        let mut rounds = self.rounds.subscribe();
        rounds.borrow_and_update();
        let strange = |key: &str| {
            self.strangers.get(&digest(key.as_bytes()), |seen| seen.elapsed() < STRANGE_FOR).unwrap_or(false)
        };
        if key.is_some_and(strange) {
            return None;
        }
        let mut asking = self.asking.lock();
        if asking.under_way {
            return Some(rounds);
        }
        if asking.last.is_some_and(|last| last.elapsed() < self.cooldown) {
            return None;
        }
        *asking = Asking { last: Some(Instant::now()), under_way: true };
        self.wanted.notify_one();
        Some(rounds)
    }

    /// What to wait for where the first fetch is under way.
    pub fn first(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    /// Waits until a fetch has ended.
    pub async fn wait(mut rounds: watch::Receiver<u64>, first: bool) {
        let ended =
            async { if first { _ = rounds.wait_for(|round| *round > 0).await } else { _ = rounds.changed().await } };
        _ = tokio::time::timeout(PATIENCE, ended).await;
    }

    /// The issuer was asked, and doesn't have this key.
    pub fn stranger(&self, key: &str) {
        self.strangers.insert(digest(key.as_bytes()), Instant::now());
    }

    fn take(&self, keys: KeySet, document: &[u8]) {
        let digest = digest(document);
        let version = match &*self.held.load() {
            Some(held) if held.digest == digest => held.version,
            Some(held) => held.version + 1,
            None => 1,
        };
        self.version.store(version, Relaxed);
        self.held.store(Some(Arc::new(Held { keys, version, digest, at: Instant::now() })));
        self.status.lock().fetched = Some(OffsetDateTime::now_utc());
    }

    /// Keeps the keys fresh until `stop`.
    pub async fn run(self: Arc<Self>, allowed: Vec<super::Algorithm>, stop: CancellationToken) {
        let Some(fetcher) = &self.fetcher else { return };
        let mut retry = RETRY;
        loop {
            let was_wanted = self.asking.lock().under_way;
            let fetched = tokio::select! {
                () = stop.cancelled() => return,
                fetched = fetcher.fetch() => fetched,
            };
            let taken = fetched.map_err(|error| format!("{error:#}")).and_then(|document| {
                let keys = KeySet::parse(&document, &allowed)?;
                self.take(keys, &document);
                Ok(())
            });
            METRICS.jwks_fetched(&self.issuer, taken.is_ok(), SystemTime::now());
            let pause = match &taken {
                Ok(()) => {
                    retry = RETRY;
                    self.refresh.mul_f64(rand::random_range(0.9..1.1))
                }
                Err(error) => {
                    tracing::warn!(issuer = self.issuer, error, "the issuer's keys can't be had: the last ones stay");
                    let pause = retry.min(self.refresh);
                    retry = (retry * 2).min(LONGEST_RETRY);
                    pause
                }
            };
            let next = OffsetDateTime::now_utc() + pause;
            {
                let mut status = self.status.lock();
                status.next = Some(next);
                status.error = taken.err();
            }
            // Who asked meanwhile may want what this fetch came too early for: the next one, at once, is theirs.
            {
                let mut asking = self.asking.lock();
                if was_wanted || !asking.under_way {
                    asking.under_way = false;
                    self.rounds.send_modify(|round| *round += 1);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::jwt::Algorithm;

    /// The key of RFC 8037, appendix A.
    fn document(id: &str) -> Vec<u8> {
        let key = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;
        format!(r#"{{"keys":[{{"kid":"{id}",{key}}}]}}"#).into_bytes()
    }

    #[test]
    fn a_token_at_hand_is_of_the_keys_that_verified_it() {
        let rules: Jwt = serde_saphyr::from_str("{issuer: i, audience: a, jwks_file: f}").unwrap();
        let keys = |document: &[u8]| KeySet::parse(document, &Algorithm::all()).unwrap();
        let source = Source::fixed(&rules, keys(&document("a")), &document("a"));
        let versions = |source: &Source| (source.version(), source.held().unwrap().version);
        assert_eq!(versions(&source), (1, 1));
        source.take(keys(&document("a")), &document("a"));
        assert_eq!(versions(&source), (1, 1), "the same keys, fetched again");
        source.take(keys(&document("b")), &document("b"));
        assert_eq!(versions(&source), (2, 2));
        let next = Source::new(&rules, None);
        next.inherit(&source);
        assert_eq!(versions(&next), (2, 2), "or nothing would be at hand until the next fetch");
    }
}
