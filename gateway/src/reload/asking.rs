//! Asks services for their descriptors: at the start, every now and then, when an endpoint has come or come back, when a
//! call finds that the service is another than was thought, and when an operator wants it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use lifecycle::Readiness;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Reloader, Trigger};
use crate::{
    descriptors::{keep, reflection},
    snapshot::{Reflected, Snapshot},
};

/// How often it is looked whether somebody is to be asked.
const TICK: Duration = Duration::from_millis(500);
/// What of the gateway isn't ready then.
const PART: &str = "descriptors";
/// How long a gateway that has just started waits for services before it takes traffic.
const GRACE: Duration = Duration::from_secs(10);

impl Reloader {
    /// Until `stop`.
    pub async fn ask(self: &Arc<Self>, stop: &CancellationToken) {
        loop {
            let snapshot = self.shared.snapshot();
            let is_due =
                |one: &&Reflected| self.loader.live.is_due(&one.upstream, one.refresh, youngest(&snapshot, one));
            let due = snapshot.reflected.iter().filter(is_due);
            join_all(due.map(|reflected| self.ask_one(&snapshot, reflected))).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.loader.live.told() => {}
                () = sleep(TICK) => {}
            }
        }
    }

    /// Keeps the gateway from being ready while services are awaited, but not for longer than [`GRACE`]: what one of them
    /// would serve must not take all else away.
    pub async fn await_descriptors(&self, readiness: &Readiness, stop: &CancellationToken) {
        let mut changes = self.shared.changes();
        let known = async {
            while self.hold_back(readiness) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = known => {}
            () = sleep(GRACE) => {}
            () = stop.cancelled() => {}
        }
        readiness.ready(PART);
    }

    /// Whether the gateway isn't ready because services are awaited.
    pub fn hold_back(&self, readiness: &Readiness) -> bool {
        let snapshot = self.shared.snapshot();
        let names: BTreeSet<_> = snapshot.awaited.iter().map(|(_, upstream)| upstream.as_str()).collect();
        if !names.is_empty() {
            let names = names.iter().copied().collect::<Vec<_>>().join(", ");
            readiness.not_ready(PART, format!("not known yet: what {names} offers"));
        }
        !names.is_empty()
    }

    async fn ask_one(self: &Arc<Self>, snapshot: &Snapshot, reflected: &Reflected) {
        let Some(running) = snapshot.upstreams.get(reflected.id.0) else { return };
        let name = &reflected.upstream;
        let answer = reflection::fetch(&running.upstream.client()).await;
        if let Err(error) = &answer {
            tracing::warn!(upstream = name.as_str(), error, "the service does not tell of its descriptors");
        }
        if self.loader.live.heard(name, &answer)
            && let Ok(encoded) = answer
        {
            let (own, reflected) = (Arc::clone(self), reflected.clone());
            let tried = tokio::task::spawn_blocking(move || own.try_descriptors(&reflected, encoded)).await;
            if tried.is_err() {
                // It panicked, or the process is going: what is known stays.
                self.loader.live.settle(name, &["it could not be tried".to_owned()]);
            }
        }
    }

    fn try_descriptors(&self, reflected: &Reflected, encoded: Bytes) {
        let _turn = self.turn.lock();
        let (live, name) = (&self.loader.live, &reflected.upstream);
        if let Err(error) = live.offer(name, encoded) {
            tracing::error!(upstream = name.as_str(), error, "what the service tells of itself makes no sense");
            return;
        }
        let (_, status) = self.attempt(Trigger::Descriptors);
        if let (Some(encoded), Some(file)) = (live.settle(name, &status.errors), &reflected.cache)
            && let Err(error) = keep(file, &encoded)
        {
            tracing::warn!(%error, file = %file.display(), "descriptors are not kept for the next start");
        }
    }
}

/// How long the endpoint has been well, in seconds, that has last come or come back.
fn youngest(snapshot: &Snapshot, reflected: &Reflected) -> Option<u64> {
    let running = snapshot.upstreams.get(reflected.id.0);
    let endpoints = running.into_iter().flat_map(|running| running.upstream.endpoints());
    endpoints.filter(|endpoint| endpoint.healthy).map(|endpoint| endpoint.for_seconds).min()
}
