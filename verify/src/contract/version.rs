//! C16: writers who say which event of a key theirs follows: of those who race, one wins.

use bus::{Mode, PublishOptions, Queue, Refused};
use events::Envelope;
use rand::Rng as _;
use tokio::task::JoinSet;

use super::Stage;
use crate::{Site, load::write_behind};

const WRITERS: usize = 4;
const KEYS: u64 = 3;

pub(super) async fn race(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let nodes = [site.node().await?, site.node().await?];
    let witness = stage.witness(nodes[0].clone());
    witness.bus.declare_queue(Queue { partitions: 2, latest: true, ..Queue::new(stage.queue()?) }).await?;
    let group = stage.group("all", Mode::Keyed)?;
    witness.declare(&group, false).await?;
    let rounds = stage.times(12);
    let mut writing = JoinSet::new();
    for writer in 0..WRITERS {
        let on = witness.on(nodes[writer % nodes.len()].clone());
        let mut rng = stage.rng(&format!("writer-{writer}"));
        let wares = stage.wares(KEYS)?;
        writing.spawn(async move {
            let name = format!("w{writer}");
            for round in 0..rounds {
                let key = format!("k{}", rng.random_range(0..KEYS));
                let event = |attempt: usize| wares.event(&format!("{name}-{round}-{attempt}"), &key, round);
                write_behind(&on, &name, event).await?;
            }
            anyhow::Ok(())
        });
    }
    // Somebody who expects nothing writes in between.
    for number in 0..rounds {
        witness
            .record("p", vec![stage.event(&format!("blind-{number}"), &format!("k{}", number as u64 % KEYS))?])
            .await?;
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    witness.ack_all(&group.name).await?;
    let queue = stage.queue()?;
    let mut last = 0;
    for key in 0..KEYS {
        last += u64::from(witness.bus.latest(&queue, &format!("k{key}")).await?.is_some());
    }
    anyhow::ensure!(last == KEYS, "{last} of {KEYS} keys have a last event");
    let stale = Envelope { expectedversion: Some(0), ..stage.event("stale", "k0")? };
    let refused = witness.publish("p", vec![stale], PublishOptions::default()).await?;
    anyhow::ensure!(matches!(refused[..], [Err(Refused::VersionConflict { .. })]), "{refused:?}");
    witness.rest().await
}
