//! What was revoked before its time: on every gateway at once, because each follows the same queue of the bus (`follow`)
//! and keeps what it reads until nothing of it could be good any more.
//!
//! A credential is looked up once for each state of the list, not once a request: what has not changed since can't have
//! revoked it. Revoking ends no stream that is open.

mod event;
mod follow;

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bus::Bus;
use events::{Name, NameError};
use parking_lot::{Mutex, RwLock};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Credential, Origin, session::Sessions};
use crate::{
    config::{Config, ConfigError, Redis},
    following::Way,
    metrics::METRICS,
};
pub use event::{Revocation, Target};
use follow::{Place, follow};

/// The event that revokes.
const EVENT: &str = "REVOKE";
/// How long a gateway that starts waits for what is on the queue.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much longer a revocation is kept than is asked for: three times the largest leeway of an issuer. A token that is as
/// long as may be, from a clock that was ahead, is taken for so long after its time.
const SLACK: time::Duration = time::Duration::minutes(15);

/// The most that is kept. What is oldest goes first, and is told.
const MOST: usize = 100_000;

/// The list. Empty where nobody follows a queue.
#[derive(Default)]
pub struct Revocations {
    /// The queue is followed as long as this lives.
    _follows: Option<DropGuard>,
    list: RwLock<List>,
    /// Rises with each change of the list. 0: it was never anything but empty.
    state: AtomicU64,
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct List {
    marks: HashMap<Target, Mark>,
    /// When each may be forgotten, the oldest first.
    ends: VecDeque<(OffsetDateTime, Target)>,
}

#[derive(Clone, Copy)]
struct Mark {
    /// What was given out before it is good no longer.
    before: OffsetDateTime,
    ends: OffsetDateTime,
}

/// What operators see.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Standing {
    /// What is followed; none: nobody can revoke by the bus.
    pub queue: Option<String>,
    /// Whether everything on the queue has been read, and the bus answers.
    pub following: bool,
    /// When the last one was recorded.
    #[serde(with = "time::serde::rfc3339::option")]
    pub latest: Option<OffsetDateTime>,
    /// Events that made no sense.
    pub unreadable: u64,
    pub error: Option<String>,
}

/// Begins to follow the queue of the configuration, if it names one: by the bus that is given, else in Redis. Waits a
/// moment for all that is there to be read, so that a gateway that starts again doesn't let in who was shut out; a bus that
/// is away holds nobody up for longer. Must be called on the shared runtime.
///
/// # Errors
/// If the queue's name is none.
pub async fn begin(
    config: &Config,
    folder: &Path,
    bus: Option<Bus>,
    sessions: &Arc<Sessions>,
) -> Result<Arc<Revocations>, Vec<ConfigError>> {
    let Some(section) = &config.authentication.revocation else { return Ok(Arc::default()) };
    let fault = |error: NameError| vec![ConfigError::new("authentication.revocation.queue", error.to_string())];
    let (queue, event) = (Name::new(&section.queue).map_err(fault)?, Name::new(EVENT).map_err(fault)?);
    let address =
        |place: &str, redis: &Redis| redis.address(folder).map_err(|message| vec![ConfigError::new(place, message)]);
    let own = address("authentication.revocation.redis", &section.redis)?;
    let Some(way) = Way::of(own, bus, address("shared.redis", &config.shared.redis)?) else {
        tracing::warn!("authentication.revocation: there is no bus to follow; nothing is revoked by events");
        return Ok(Arc::default());
    };
    let stop = CancellationToken::new();
    let list = Arc::new(Revocations { _follows: Some(stop.clone().drop_guard()), ..Revocations::default() });
    let (caught_up, mut read) = watch::channel(false);
    let place = Place { bus: way, queue, event, keep: section.keep };
    tokio::spawn(follow(place, Arc::downgrade(&list), Arc::clone(sessions), caught_up, stop));
    if tokio::time::timeout(PATIENCE, read.wait_for(|read| *read)).await.is_err() {
        tracing::warn!("what was revoked before could not be read yet: the gateway starts without it");
    }
    Ok(list)
}

impl Revocations {
    /// Whether it was revoked.
    pub fn revoked(&self, credential: &Credential) -> bool {
        let state = self.state.load(Ordering::Acquire);
        if credential.cleared.load(Ordering::Relaxed) == state {
            return false;
        }
        if self.list.read().holds(credential) {
            return true;
        }
        credential.cleared.store(state, Ordering::Relaxed);
        false
    }

    /// Takes revocations in, each kept for `keep` from when it was recorded.
    pub fn add(&self, revocations: impl IntoIterator<Item = Revocation>, keep: Duration) {
        let now = OffsetDateTime::now_utc();
        let mut list = self.list.write();
        let mut latest = None;
        for revocation in revocations {
            latest = latest.max(Some(revocation.at));
            list.add(revocation, keep, now);
        }
        list.forget(now);
        METRICS.revocations(list.marks.len());
        drop(list);
        // After the list: whoever sees the state sees the list.
        self.state.fetch_add(1, Ordering::Release);
        let mut standing = self.standing.lock();
        standing.latest = standing.latest.max(latest);
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.list.read().marks.len()
    }

    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing.lock();
        change(&mut standing);
        METRICS.revocations_followed(standing.following);
    }
}

impl List {
    fn holds(&self, credential: &Credential) -> bool {
        let given = |target: &Target| {
            self.marks.get(target).is_some_and(|mark| credential.since.is_none_or(|since| since < mark.before))
        };
        let itself = match &credential.origin {
            Origin::Key(id) => self.marks.contains_key(&Target::Key(Arc::clone(id))),
            Origin::Session(id) => self.marks.contains_key(&Target::Session(*id)),
            Origin::Token { issuer, id: Some(id) } => {
                let of = |issuer| self.marks.contains_key(&Target::Token { issuer, id: Arc::clone(id) });
                of(None) || of(Some(Arc::clone(issuer)))
            }
            Origin::Token { id: None, .. } | Origin::Certificate => false,
        };
        itself || given(&Target::Subject(credential.principal.subject.as_str().into()))
    }

    fn add(&mut self, revocation: Revocation, keep: Duration, now: OffsetDateTime) {
        let Revocation { target, before, at } = revocation;
        let keep = time::Duration::try_from(keep).map_or(time::Duration::MAX, |keep| keep.saturating_add(SLACK));
        let ends = at.saturating_add(keep);
        if ends <= now {
            return;
        }
        let mark = self.marks.entry(target.clone()).or_insert(Mark { before, ends: OffsetDateTime::UNIX_EPOCH });
        mark.before = before.max(mark.before);
        // What is read again is there already.
        if mark.ends < ends {
            mark.ends = ends;
            self.ends.push_back((ends, target));
        }
    }

    fn forget(&mut self, now: OffsetDateTime) {
        while let Some((ends, _)) = self.ends.front() {
            let over = *ends <= now;
            if !over && self.ends.len() <= MOST {
                return;
            }
            let Some((ends, target)) = self.ends.pop_front() else { return };
            // Unless it was revoked again since.
            if self.marks.get(&target).is_some_and(|mark| mark.ends <= ends) {
                self.marks.remove(&target);
                if !over {
                    METRICS.revocation_evicted();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use principal::Principal;

    use super::*;

    const KEEP: Duration = Duration::from_secs(3600);

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn of(target: Target) -> Revocation {
        Revocation { target, before: now(), at: now() }
    }

    fn credential(subject: &str, origin: Origin, since: Option<OffsetDateTime>) -> Credential {
        Credential::new(Principal { subject: subject.to_owned(), ..Principal::default() }, origin, since)
    }

    fn token(issuer: &str, id: &str) -> Origin {
        Origin::Token { issuer: issuer.into(), id: Some(id.into()) }
    }

    #[test]
    fn what_is_named_is_good_no_longer_and_all_else_is() {
        let list = Revocations::default();
        let (key, other) = (Origin::Key("a".into()), Origin::Key("b".into()));
        let (key, other) = (credential("users/1", key, None), credential("users/1", other, None));
        let session = credential("users/2", Origin::Session([7; 32]), Some(now()));
        let (mine, theirs) =
            (credential("users/3", token("i", "j"), None), credential("users/3", token("k", "j"), None));
        for good in [&key, &other, &session, &mine, &theirs] {
            assert!(!list.revoked(good));
        }
        list.add([of(Target::Key("a".into())), of(Target::Session([7; 32]))], KEEP);
        list.add([of(Target::Token { issuer: Some("i".into()), id: "j".into() })], KEEP);
        let revoked = [&key, &other, &session, &mine, &theirs].map(|one| list.revoked(one));
        assert_eq!(revoked, [true, false, true, true, false]);
        list.add([of(Target::Token { issuer: None, id: "j".into() })], KEEP);
        assert!(list.revoked(&theirs), "of any issuer");
    }

    #[test]
    fn a_subject_is_revoked_with_all_that_was_given_out_before() {
        let list = Revocations::default();
        list.add([of(Target::Subject("users/1".into()))], KEEP);
        let minute = Duration::from_secs(60);
        for (since, revoked) in [(Some(now() - minute), true), (None, true), (Some(now() + minute), false)] {
            for origin in [Origin::Key("a".into()), Origin::Session([1; 32]), token("i", "j"), Origin::Certificate] {
                assert_eq!(list.revoked(&credential("users/1", origin, since)), revoked, "{since:?}");
            }
        }
        assert!(!list.revoked(&credential("users/2", Origin::Certificate, None)));
    }

    #[test]
    fn a_token_does_not_outlive_its_revocation_by_the_leeway() {
        let list = Revocations::default();
        let before_all = Revocation { at: now() - KEEP - Duration::from_secs(300), ..of(Target::Key("a".into())) };
        let at_the_end =
            Revocation { at: time::macros::datetime!(9999-12-31 23:59 UTC), ..of(Target::Key("b".into())) };
        list.add([before_all, at_the_end], KEEP);
        for id in ["a", "b"] {
            assert!(list.revoked(&credential("x", Origin::Key(id.into()), None)), "{id}");
        }
    }

    #[test]
    fn it_is_kept_until_its_time_is_over_and_within_bounds() {
        let list = Revocations::default();
        let old = Revocation { at: now() - 2 * KEEP, ..of(Target::Key("old".into())) };
        list.add([old], KEEP);
        assert_eq!(list.len(), 0);
        let again = of(Target::Key("again".into()));
        list.add([again.clone(), again], KEEP);
        assert_eq!((list.len(), list.list.read().ends.len()), (1, 1));
        list.add((0..MOST + 5).map(|n| of(Target::Key(n.to_string().into()))), KEEP);
        assert_eq!(list.len(), MOST);
        assert!(list.revoked(&credential("x", Origin::Key("100004".into()), None)), "the latest stay");
        let mut inner = list.list.write();
        inner.forget(now() + 2 * KEEP);
        assert!(inner.marks.is_empty() && inner.ends.is_empty());
    }
}
