//! Following the queue that revocations come by: all of it from the beginning, so that a gateway that starts again knows
//! what the others know, then what is recorded.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bus::{Gap, GapReason, TailFrom};
use events::{Envelope, Filter, Name};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Revocation, Revocations, Standing, Target};
use crate::{
    auth::session::Sessions,
    following::{self, After, Reader, Way},
};

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

/// Follows the queue until `stop`. `caught_up` turns true when everything that was there has been read.
pub async fn follow(
    place: Place,
    list: Weak<Revocations>,
    sessions: Arc<Sessions>,
    caught_up: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let Place { bus, queue, event, keep } = place;
    let follower = Follower { keep, list, sessions, caught_up, replayed: Vec::new(), reading: false };
    follower.note(|standing| standing.queue = Some(queue.to_string()));
    let filter = Filter::one(queue, event);
    following::follow(bus, filter, TailFrom::Earliest, follower, stop).await;
}

struct Follower {
    keep: Duration,
    /// Its end ends the following.
    list: Weak<Revocations>,
    sessions: Arc<Sessions>,
    caught_up: watch::Sender<bool>,
    /// What was read of the past and is not taken in yet.
    replayed: Vec<Revocation>,
    /// It reads what is recorded now.
    reading: bool,
}

impl Reader for Follower {
    fn opened(&mut self) {
        self.reading = false;
    }

    fn event(&mut self, envelope: &Envelope) {
        match Revocation::read(envelope) {
            Ok(revocation) if self.reading => self.take(revocation),
            Ok(revocation) => {
                self.replayed.push(revocation);
                if self.replayed.len() >= BATCH {
                    self.take_past();
                }
            }
            Err(error) => {
                tracing::warn!(id = envelope.id, source = envelope.source, error, "a revocation makes no sense");
                self.note(|standing| standing.unreadable += 1);
            }
        }
    }

    fn caught_up(&mut self) {
        self.take_past();
        self.reading = true;
        self.note(|standing| (standing.following, standing.error) = (true, None));
        self.caught_up.send_replace(true);
    }

    fn missing(&mut self, gap: &Gap) -> After {
        // It would be as unreadable the next time.
        if gap.reason == GapReason::Unreadable {
            tracing::error!(lost = ?gap.lost, "revocations can't be read");
            return After::GoOn;
        }
        tracing::warn!(reason = ?gap.reason, lost = ?gap.lost, "revocations are missing: all are read again");
        self.take_past();
        After::Anew
    }

    fn lost(&mut self, error: &str) {
        self.take_past();
        self.note(|standing| {
            if standing.error.is_none() {
                tracing::warn!(error, "the bus is away: what is revoked now is not known until it is back");
            }
            (standing.following, standing.error) = (false, Some(error.to_owned()));
        });
    }
}

impl Follower {
    /// Takes the past in. Sessions of it are not closed: the list is enough, and they end by themselves.
    fn take_past(&mut self) {
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

    fn add(&self, revocations: Vec<Revocation>) {
        if let Some(list) = self.list.upgrade() {
            list.add(revocations, self.keep);
        }
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        if let Some(list) = self.list.upgrade() {
            list.note(change);
        }
    }
}
