//! Where tasks of one kind and priority come from: a group on the queue of that priority.

use std::{sync::Arc, time::Duration};

use bus::{Bus, Group, Mode};
use events::Filter;
use futures_util::future::select_all;
use tokio::{sync::watch, time::Instant};

use crate::{Priority, event, worker::Registered};

pub(crate) struct Lane {
    pub kind: Arc<Registered>,
    /// As in [`Priority::ALL`].
    pub priority: usize,
    pub group: Group,
    pub claimable: watch::Receiver<u64>,
    pub declared: bool,
    /// Asked before then, it has nothing.
    pub quiet_until: Instant,
}

impl Lane {
    /// Those of a kind, one a priority.
    pub fn of(bus: &Bus, kind: &Arc<Registered>, lease: Duration) -> Vec<Self> {
        let lane = |(at, priority)| {
            let group = group(kind.name, priority, lease);
            let claimable = bus.claimable(&group.name);
            Self { kind: kind.clone(), priority: at, group, claimable, declared: false, quiet_until: Instant::now() }
        };
        Priority::ALL.into_iter().enumerate().map(lane).collect()
    }
}

/// The group of the workers on a kind, for tasks of a priority.
pub fn group_of(kind: &str, priority: Priority) -> String {
    event::group(kind, priority)
}

/// Whether a group of this name is one of workers: what it gets is settled here alone.
pub fn is_group(name: &str) -> bool {
    event::of_group(name).is_some()
}

/// The workers of a kind are a group in each of the three queues.
pub(crate) fn group(kind: &str, priority: Priority, lease: Duration) -> Group {
    let filter = Filter { events: Some(vec![event::name(kind)]), ..all(priority) };
    // Tasks of one job may run at once: what comes after what is decided before it is published.
    let mut group = Group::new(&event::group(kind, priority), filter, Mode::Parallel);
    group.lease = lease;
    group
}

#[expect(clippy::expect_used, reason = "a queue's name and /* is a filter")]
fn all(priority: Priority) -> Filter {
    format!("{}/*", event::queue(priority)).parse().expect("a filter")
}

/// Waits until a lane that had nothing may have something.
pub(crate) async fn woken(lanes: &mut [Lane]) {
    let now = Instant::now();
    let quiet = lanes.iter_mut().filter(|lane| lane.quiet_until > now).map(|lane| {
        Box::pin(async move {
            // Without a sender it is looked at in its time.
            let changed = async {
                if lane.claimable.changed().await.is_err() {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = changed, if lane.declared => {}
                () = tokio::time::sleep_until(lane.quiet_until) => {}
            }
            lane.quiet_until = Instant::now();
        })
    });
    let quiet: Vec<_> = quiet.collect();
    if quiet.is_empty() {
        return std::future::pending().await;
    }
    select_all(quiet).await;
}
