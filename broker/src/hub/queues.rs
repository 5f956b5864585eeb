//! Which queues there are, for those who follow them all.

use std::{collections::BTreeSet, sync::Weak, time::Duration};

use bus::Bus;
use events::Name;
use tokio::sync::watch;

/// New queues are joined within a second.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Queues(watch::Sender<BTreeSet<Name>>);

impl Queues {
    pub(super) fn subscribe(&self) -> watch::Receiver<BTreeSet<Name>> {
        self.0.subscribe()
    }
}

/// The queues of now, but for who comes and goes: that is told to those who name it.
pub(super) async fn list(bus: &Bus) -> Result<BTreeSet<Name>, bus::Error> {
    let names = bus.queues().await?.into_iter().map(|queue| queue.settings.name);
    Ok(names.filter(|name| *name != bus::presence::presence()).collect())
}

/// Looks again and again, while somebody wants to know.
pub(super) async fn watch(bus: Bus, queues: Weak<Queues>) {
    loop {
        let listed = list(&bus).await;
        let Some(queues) = queues.upgrade() else { return };
        match listed {
            Ok(listed) => {
                queues.0.send_if_modified(|known| {
                    let new = *known != listed;
                    *known = listed;
                    new
                });
            }
            Err(error) => tracing::debug!(%error, "the queues can't be listed now"),
        }
        drop(queues);
        tokio::time::sleep(LOOK).await;
    }
}
