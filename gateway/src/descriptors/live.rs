//! What services that are asked for their descriptors have said, for as long as the gateway runs: a service that is away
//! keeps its routes. What is new counts once a configuration could be made of it; until then, and if not, the old stays.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::{Descriptors, decode};

/// How soon a service is asked again of which nothing is known.
const UNKNOWN: Duration = Duration::from_secs(1);
/// How soon one is that may be another than is known.
const DOUBTED: Duration = Duration::from_secs(3);

/// Of all upstreams with `descriptors: reflection`, by name.
#[derive(Default)]
pub struct Live {
    sets: Mutex<BTreeMap<String, Set>>,
    told: Notify,
}

#[derive(Default)]
struct Set {
    known: Option<Known>,
    /// What takes its place while it is tried.
    offered: Option<Known>,
    /// When it was last asked.
    asked: Option<(Instant, OffsetDateTime)>,
    /// Why what it said last doesn't count, or why it said nothing.
    fault: Option<String>,
    /// It is another than was thought.
    is_stale: bool,
}

#[derive(Clone)]
struct Known {
    encoded: Bytes,
    descriptors: Descriptors,
    since: OffsetDateTime,
}

/// Tells that a service is another than was thought. Cheap to clone.
#[derive(Clone)]
pub struct Stale {
    live: Arc<Live>,
    upstream: Arc<str>,
}

/// How it stands with an upstream, for operators.
#[derive(Debug, serde::Serialize)]
pub struct View {
    upstream: String,
    /// Whether anything is known of it.
    known: bool,
    /// When what is known was first heard.
    #[serde(with = "time::serde::rfc3339::option")]
    since: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    asked: Option<OffsetDateTime>,
    fault: Option<String>,
    files: usize,
    services: Vec<String>,
    /// The beginning of the SHA-256 of all of it: the same on all replicas that know the same.
    digest: Option<String>,
}

impl Live {
    pub fn stale(self: &Arc<Self>, upstream: &str) -> Stale {
        Stale { live: Arc::clone(self), upstream: upstream.into() }
    }

    /// What counts now: what is tried, or else what is known.
    pub fn get(&self, upstream: &str) -> Option<Descriptors> {
        let sets = self.sets.lock();
        let set = sets.get(upstream)?;
        set.offered.as_ref().or(set.known.as_ref()).map(|known| known.descriptors.clone())
    }

    /// Whether what counts is only tried.
    pub fn is_tried(&self, upstream: &str) -> bool {
        self.sets.lock().get(upstream).is_some_and(|set| set.offered.is_some())
    }

    /// Takes what an earlier process kept in a file.
    ///
    /// # Errors
    /// If it is there and no set.
    pub fn recall(&self, upstream: &str, file: &Path) -> Result<(), String> {
        let encoded = match fs::read(file) {
            Ok(encoded) => encoded,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        let known = Known::new(encoded.into()).map_err(|message| format!("{}: {message}", file.display()))?;
        self.sets.lock().entry(upstream.to_owned()).or_default().known = Some(known);
        Ok(())
    }

    /// Whether it is time to ask. `youngest`: for how many seconds the endpoint is there that has come last.
    pub fn is_due(&self, upstream: &str, refresh: Duration, youngest: Option<u64>) -> bool {
        let sets = self.sets.lock();
        let Some(set) = sets.get(upstream) else { return true };
        let Some((asked, _)) = set.asked else { return true };
        let has_come = youngest.is_some_and(|seconds| seconds < asked.elapsed().as_secs());
        let wait = match set {
            Set { known: None, .. } => UNKNOWN,
            set if set.is_stale || set.fault.is_some() || has_come => DOUBTED,
            _ => refresh,
        };
        asked.elapsed() >= wait.min(refresh)
    }

    /// All are asked as soon as may be, or one.
    pub fn tell(&self, upstream: Option<&str>) {
        let mut is_news = false;
        for (name, set) in self.sets.lock().iter_mut() {
            if upstream.is_none_or(|upstream| upstream == name) {
                is_news |= !std::mem::replace(&mut set.is_stale, true);
            }
        }
        if is_news {
            self.told.notify_one();
        }
    }

    /// Until somebody tells.
    pub async fn told(&self) {
        self.told.notified().await;
    }

    /// Notes an answer, and whether it is another than the one that counts. Of no answer, why.
    pub fn heard(&self, upstream: &str, answer: &Result<Bytes, String>) -> bool {
        let mut sets = self.sets.lock();
        let set = sets.entry(upstream.to_owned()).or_default();
        set.asked = Some((Instant::now(), OffsetDateTime::now_utc()));
        set.is_stale = false;
        match answer {
            Ok(encoded) => {
                let is_new = set.known.as_ref().is_none_or(|known| known.encoded != *encoded);
                if !is_new {
                    set.fault = None;
                }
                is_new
            }
            Err(message) => {
                set.fault = Some(message.clone());
                false
            }
        }
    }

    /// Lets it count while it is tried.
    ///
    /// # Errors
    /// It is no set: it is not tried.
    pub fn offer(&self, upstream: &str, encoded: Bytes) -> Result<(), String> {
        let known = Known::new(encoded);
        let mut sets = self.sets.lock();
        let set = sets.entry(upstream.to_owned()).or_default();
        match known {
            Ok(known) => set.offered = Some(known),
            Err(message) => {
                set.fault = Some(message.clone());
                return Err(message);
            }
        }
        Ok(())
    }

    /// What was tried counts from now on; or it doesn't, for these reasons.
    pub fn settle(&self, upstream: &str, faults: &[String]) -> Option<Bytes> {
        let mut sets = self.sets.lock();
        let set = sets.entry(upstream.to_owned()).or_default();
        let offered = set.offered.take()?;
        if !faults.is_empty() {
            set.fault = Some(format!("not taken over: {}", faults.join("; ")));
            return None;
        }
        set.fault = None;
        Some(set.known.insert(offered).encoded.clone())
    }

    pub fn views(&self) -> Vec<View> {
        self.sets.lock().iter().map(|(upstream, set)| set.view(upstream)).collect()
    }
}

impl Known {
    fn new(encoded: Bytes) -> Result<Self, String> {
        Ok(Self { descriptors: decode(&encoded)?, encoded, since: OffsetDateTime::now_utc() })
    }
}

impl Set {
    fn view(&self, upstream: &str) -> View {
        let known = self.known.as_ref();
        let hex = |bytes: &[u8]| bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        View {
            upstream: upstream.to_owned(),
            known: known.is_some(),
            since: known.map(|known| known.since),
            asked: self.asked.map(|(_, asked)| asked),
            fault: self.fault.clone(),
            files: known.map_or(0, |known| known.descriptors.files().len()),
            services: known
                .into_iter()
                .flat_map(|known| known.descriptors.services())
                .map(|s| s.full_name().to_owned())
                .collect(),
            digest: known.map(|known| hex(digest(&SHA256, &known.encoded).as_ref())),
        }
    }
}

impl Stale {
    pub fn tell(&self) {
        self.live.tell(Some(&self.upstream));
    }
}

/// Keeps a set for the next process: another file takes the place of the old one, whole.
///
/// # Errors
/// If it can't be written.
pub fn keep(file: &Path, encoded: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("new");
    fs::write(&beside, encoded)?;
    fs::rename(beside, file)
}
