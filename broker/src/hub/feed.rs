//! The node's reader of a queue: from the log into the ring.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bus::{Ahead, Tail, TailFrom, Tailed};
use events::{Filter, Name};
use tokio::time::{Instant, interval, sleep, timeout};

use super::{
    Hub,
    ring::{Entry, Event, Places, Ring},
};

/// How long a queue is read on that nobody follows: clients come back.
const GRACE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(5);
/// What it reads ahead: it never rests with that.
const AHEAD: Ahead = Ahead { events: 512, bytes: 4 << 20 };
/// How long it rests after the bus was away.
pub(super) const REST: Duration = Duration::from_millis(500);

/// Fills the ring until nobody has wanted it for a while.
pub(super) async fn run(hub: Hub, queue: Name, ring: Arc<Ring>) {
    let unwanted = async {
        let mut look = interval(LOOK);
        let mut wanted = Instant::now();
        loop {
            look.tick().await;
            if !is_unread(&ring) {
                wanted = Instant::now();
            } else if wanted.elapsed() >= GRACE && hub.forget(&queue, &ring) {
                return;
            }
        }
    };
    tokio::select! {
        never = fill(&hub, &queue, &ring) => match never {},
        () = unwanted => {}
    }
}

/// Whether only the hub and the feed hold it.
pub(super) fn is_unread(ring: &Arc<Ring>) -> bool {
    Arc::strong_count(ring) <= 2
}

/// All events of a queue.
pub(super) fn all(queue: &Name) -> Filter {
    Filter::all(queue.clone())
}

/// Where a tail is.
pub(super) fn places(tail: &Tail) -> Places {
    tail.cursor().places().map(|(partition, lineage, position)| (partition, (lineage, position))).collect()
}

async fn fill(hub: &Hub, queue: &Name, ring: &Ring) -> Infallible {
    let mut tail = loop {
        match hub.bus().tail(all(queue), TailFrom::Latest).await {
            Ok(tail) => break tail,
            Err(error) => {
                tracing::warn!(%queue, %error, "the queue can't be followed now");
                sleep(REST).await;
            }
        }
    };
    tail.read_ahead(AHEAD);
    ring.begin(places(&tail));
    loop {
        let Ok(next) = timeout(LOOK, tail.next()).await else {
            ring.rename(places(&tail));
            continue;
        };
        match next {
            Ok(Tailed::Event { envelope, partition, .. }) => {
                let places = places(&tail);
                let Some(&place) = places.get(&partition) else { continue };
                // A partition whose beginning is gone already: its readers must be told.
                if place.1 > 1 && !ring.knows(partition) {
                    ring.begin(places);
                    continue;
                }
                ring.push(Entry { partition, place, event: Arc::new(Event::new(envelope)) });
            }
            // Each reader is told from its own place, by the log.
            Ok(Tailed::Gap(_)) => ring.begin(places(&tail)),
            Ok(Tailed::CaughtUp) => {}
            Err(error) => {
                tracing::warn!(%queue, %error, "the queue can't be followed now");
                sleep(REST).await;
            }
        }
    }
}
