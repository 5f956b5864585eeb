//! C14: readers on each transport see the same events, whatever dies meanwhile; what can't be told any more is told as the
//! gap it is. That they see the same is found by the checker: each sees what the log holds, in its order.

use std::time::Duration;

use bus::{Overflow, PublishOptions, Queue};
use rand::{Rng as _, seq::SliceRandom as _};
use verify::{
    Site as _,
    contract::Stage,
    history::{Action, Harm, What},
    load::{Publisher, Witness, audit},
};

use super::SOON;
use crate::lab::{Brokers, Fleet, Following, Lab, Reader, TRANSPORTS};

/// What a queue keeps that forgets.
const KEPT: u64 = 40;
/// What is published while nobody can follow: more than that.
const MANY: usize = 100;

/// What happens between the readers and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Every connection is reset.
    Cut,
    /// A node dies; its clients go over to the other one, and a new one comes.
    Node,
    /// No node is there for some time.
    Nodes,
    /// The log's server is killed, or its file closed and opened again.
    Log,
}

/// C14: nodes die, connections are cut, the log is restarted: nobody misses anything, nobody is told anything twice.
pub(super) async fn equal(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let mut fleet = Fleet::start(lab, Brokers::new(), 2, stage.seed).await?;
    let readers = follow(stage, &fleet)?;
    let mut rng = stage.rng("faults");
    let mut faults = [Fault::Cut, Fault::Node, Fault::Nodes, Fault::Log, Fault::Cut].repeat(stage.scale as usize);
    faults.shuffle(&mut rng);
    for (round, fault) in faults.into_iter().enumerate() {
        let witness = stage.witness(lab.node().await?);
        let name = format!("p{round}");
        let publishing = publish(&witness, stage, &name, 40);
        // Nobody else may hold a file that is opened again.
        if fault == Fault::Nodes || (fault == Fault::Log && lab.backend() == "sqlite") {
            publishing.await?;
            drop(witness);
            desert(lab, stage, &mut fleet, round, fault == Fault::Log).await?;
            continue;
        }
        let before = Duration::from_millis(rng.random_range(20..150));
        let breaking = async {
            tokio::time::sleep(before).await;
            strike(lab, stage, &mut fleet, fault, round % 2).await
        };
        tokio::try_join!(publishing, breaking)?;
    }
    let witness = stage.witness(lab.node().await?);
    publish(&witness, stage, "last", 10).await?;
    finish(&witness, stage, &readers).await
}

/// C14: readers are away while the queue forgets: each is told exactly which positions it can't have any more.
pub(super) async fn trimmed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let queue = Queue { max_len: Some(KEPT), overflow: Overflow::DropOldest, ..Queue::new(stage.queue()?) };
    witness.bus.declare_queue(queue).await?;
    let mut fleet = Fleet::start(lab, Brokers::new(), 2, stage.seed).await?;
    let readers = follow(stage, &fleet)?;
    publish(&witness, stage, "first", 20).await?;
    Reader::all_have(&readers, head(&witness, stage).await?).await;
    witness.operated("", Action::Trim);
    witness.operated("", Action::Drop);
    for round in 1..=stage.times(2) {
        // What a node has in memory it would tell all the same.
        desert(lab, stage, &mut fleet, round, false).await?;
        Reader::all_have(&readers, head(&witness, stage).await?).await;
        for reader in &readers {
            let gaps = reader.notes.gaps();
            anyhow::ensure!(gaps.len() >= round, "a reader was away {round} times, and told {gaps:?}");
            anyhow::ensure!(gaps.iter().all(|gap| gap.reason == "retention"), "{gaps:?}");
        }
    }
    publish(&witness, stage, "last", 10).await?;
    finish(&witness, stage, &readers).await
}

/// C14: everything is deleted while readers follow: each is told so, once, and goes on with what comes then.
pub(super) async fn flushed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let fleet = Fleet::start(lab, Brokers::new(), 2, stage.seed).await?;
    let readers = follow(stage, &fleet)?;
    publish(&witness, stage, "first", 40).await?;
    Reader::all_have(&readers, head(&witness, stage).await?).await;
    witness.harmed("flush", Harm::Outage);
    witness.harmed("flush", Harm::Rollback { since: 0 });
    lab.redis().command(&["FLUSHALL"]).await;
    witness.healed("flush");
    publish(&witness, stage, "second", 30).await?;
    testkit::eventually("everybody is told", SOON, async || {
        readers.iter().all(|reader| !reader.notes.gaps().is_empty()).then_some(())
    })
    .await;
    Reader::all_have(&readers, head(&witness, stage).await?).await;
    for reader in &readers {
        let gaps = reader.notes.gaps();
        let told: Vec<_> = gaps.iter().map(|gap| (gap.reason.as_str(), gap.lost)).collect();
        anyhow::ensure!(told == [("reset", None)], "the log began anew, once: {gaps:?}");
        anyhow::ensure!(reader.notes.events() == 70, "{} of 70 events", reader.notes.events());
    }
    finish(&witness, stage, &readers).await
}

/// Something breaks while everybody is at work.
async fn strike(lab: &Lab, stage: &Stage, fleet: &mut Fleet, fault: Fault, number: usize) -> anyhow::Result<()> {
    let by = format!("{fault:?}");
    stage.history.write(What::Harmed { by: by.clone(), harm: Harm::Outage });
    match fault {
        Fault::Log => lab.redis().server.lock().await.restart().await,
        Fault::Node => {
            fleet.kill(number).await?;
            fleet.replace(lab, number).await?;
        }
        Fault::Cut | Fault::Nodes => fleet.cut(),
    }
    stage.history.write(What::Healed { by });
    Ok(())
}

/// Every node dies, and more is published until others come: who follows reads that in the log.
async fn desert(lab: &Lab, stage: &Stage, fleet: &mut Fleet, round: usize, reopens: bool) -> anyhow::Result<()> {
    stage.history.write(What::Harmed { by: "nodes".into(), harm: Harm::Outage });
    for number in 0..2 {
        fleet.kill(number).await?;
    }
    if reopens {
        lab.sqlite().close();
    }
    publish(&stage.witness(lab.node().await?), stage, &format!("alone{round}"), MANY).await?;
    for number in 0..2 {
        fleet.replace(lab, number).await?;
    }
    stage.history.write(What::Healed { by: "nodes".into() });
    Ok(())
}

/// On each transport a reader at each node, from the beginning.
pub(super) fn follow(stage: &Stage, fleet: &Fleet) -> anyhow::Result<Vec<Reader>> {
    let mut readers = Vec::new();
    for transport in TRANSPORTS {
        for number in 0..2 {
            let (queue, at) = (stage.queue()?, fleet.front(number).address());
            let name = format!("{transport:?}-{number}");
            let caller = fleet.brokers.reader(&name);
            readers.push(Reader::start(&stage.history, &name, transport, Following::new(queue, at, caller)));
        }
    }
    Ok(readers)
}

/// Publishes so many, a few at once; the publisher's name tells them from others.
pub(super) async fn publish(witness: &Witness, stage: &Stage, name: &str, count: usize) -> anyhow::Result<()> {
    let (wares, rng, options) = (stage.wares(10)?, stage.rng(name), PublishOptions::default());
    let publisher = Publisher { witness: witness.clone(), name: name.to_owned(), wares, rng, options };
    publisher.run(count, 4, Duration::from_millis(5)).await
}

/// The last position of the case's queue.
pub(super) async fn head(witness: &Witness, stage: &Stage) -> anyhow::Result<u64> {
    Ok(witness.bus.read(&stage.queue()?, 0, u64::MAX >> 1, 1).await?.next - 1)
}

/// Everybody gets what is there, which is written down.
pub(super) async fn finish(witness: &Witness, stage: &Stage, readers: &[Reader]) -> anyhow::Result<()> {
    Reader::all_have(readers, head(witness, stage).await?).await;
    stage.history.write(What::Rest);
    audit(witness).await
}
