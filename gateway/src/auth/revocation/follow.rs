//! Following the queue that revocations come by: all of it from the beginning, so that a gateway that starts again knows
//! what the others know, then what is recorded. It only ever reads.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bus::{Bus, GapReason, Tail, TailFrom, Tailed};
use events::{Filter, Name};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Revocation, Revocations, Standing, Target};
use crate::auth::session::Sessions;

/// How long after a failure the bus is asked again, at most twice as much each time.
const RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// So many of the past are taken in at once.
const BATCH: usize = 1_000;

/// Where the queue is.
pub struct Place {
    pub bus: Way,
    pub queue: Name,
    pub event: Name,
    /// How long a revocation is kept.
    pub keep: Duration,
}

/// The way to the bus.
pub enum Way {
    Open(Bus),
    /// The URL of its Redis. It need not answer yet.
    Redis(String),
}

/// Follows the queue until `stop`. `caught_up` turns true when everything that was there has been read.
pub async fn follow(
    place: Place,
    list: Weak<Revocations>,
    sessions: Arc<Sessions>,
    caught_up: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let replayed = Vec::new();
    let mut follower = Follower { place, list, sessions, caught_up, replayed, reading: false };
    follower.note(|standing| standing.queue = Some(follower.place.queue.to_string()));
    tokio::select! {
        () = stop.cancelled() => {}
        () = follower.run() => {}
    }
}

struct Follower {
    place: Place,
    /// Its end ends the following.
    list: Weak<Revocations>,
    sessions: Arc<Sessions>,
    caught_up: watch::Sender<bool>,
    /// What was read of the past and is not taken in yet.
    replayed: Vec<Revocation>,
    /// It reads what is recorded now.
    reading: bool,
}

impl Follower {
    async fn run(&mut self) {
        let mut retry = RETRY;
        loop {
            match self.open().await {
                Ok(tail) => {
                    retry = RETRY;
                    self.read(tail).await;
                }
                Err(error) => {
                    self.lost(&error);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    async fn open(&mut self) -> Result<Tail, String> {
        let bus = match &self.place.bus {
            Way::Open(bus) => bus.clone(),
            Way::Redis(url) => {
                let bus = bus::redis::open(url).await.map_err(|error| format!("{error:#}"))?;
                self.place.bus = Way::Open(bus.clone());
                bus
            }
        };
        let filter = Filter { queue: self.place.queue.clone(), events: Some(vec![self.place.event.clone()]) };
        bus.tail(filter, TailFrom::Earliest).await.map_err(|error| error.to_string())
    }

    /// Reads until something is missing: then all of it must be read again.
    async fn read(&mut self, mut tail: Tail) {
        self.reading = false;
        loop {
            match tail.next().await {
                Ok(Tailed::Event { envelope, .. }) => match Revocation::read(&envelope) {
                    Ok(revocation) if self.reading => self.take(revocation),
                    Ok(revocation) => {
                        self.replayed.push(revocation);
                        if self.replayed.len() >= BATCH {
                            self.caught_up();
                        }
                    }
                    Err(error) => {
                        tracing::warn!(
                            id = envelope.id,
                            source = envelope.source,
                            error,
                            "a revocation makes no sense"
                        );
                        self.note(|standing| standing.unreadable += 1);
                    }
                },
                // It would be as unreadable the next time.
                Ok(Tailed::Gap(gap)) if gap.reason == GapReason::Unreadable => {
                    tracing::error!(lost = ?gap.lost, "revocations can't be read");
                }
                Ok(Tailed::Gap(gap)) => {
                    tracing::warn!(reason = ?gap.reason, lost = ?gap.lost, "revocations are missing: all are read again");
                    self.caught_up();
                    return;
                }
                Ok(Tailed::CaughtUp) => {
                    self.caught_up();
                    self.reading = true;
                    self.note(|standing| (standing.following, standing.error) = (true, None));
                    self.caught_up.send_replace(true);
                }
                Err(error) => {
                    self.lost(&error.to_string());
                    tokio::time::sleep(RETRY).await;
                    // What it says of itself must be true again, which a whole reading finds out.
                    return;
                }
            }
        }
    }

    /// Takes the past in. Sessions of it are not closed: the list is enough, and they end by themselves.
    fn caught_up(&mut self) {
        if !self.replayed.is_empty() {
            let replayed = std::mem::take(&mut self.replayed);
            self.add(replayed);
        }
    }

    fn take(&self, revocation: Revocation) {
        let sessions = Arc::clone(&self.sessions);
        match revocation.target.clone() {
            Target::Session(id) => {
                tokio::spawn(async move { sessions.revoke(&id).await });
            }
            Target::Subject(subject) => {
                let before = revocation.before;
                tokio::spawn(async move { sessions.revoke_all(&subject, before).await });
            }
            Target::Key(_) | Target::Token { .. } => {}
        }
        self.add(vec![revocation]);
    }

    fn lost(&mut self, error: &str) {
        self.caught_up();
        self.note(|standing| {
            if standing.error.is_none() {
                tracing::warn!(error, "the bus is away: what is revoked now is not known until it is back");
            }
            (standing.following, standing.error) = (false, Some(error.to_owned()));
        });
    }

    fn add(&self, revocations: Vec<Revocation>) {
        if let Some(list) = self.list.upgrade() {
            list.add(revocations, self.place.keep);
        }
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        if let Some(list) = self.list.upgrade() {
            list.note(change);
        }
    }
}
