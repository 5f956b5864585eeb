//! F12: events that no handler survives.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Consumer, Delivery, Failure, Group, Handler, Mode};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
    load::{Effects, Handling, Witness},
};

use super::SOON;
use crate::lab::{Child, Lab, Point, Role};

/// A handler that meets poison: by the event's id.
struct Tries {
    handling: Handling,
}

#[async_trait]
impl Handler for Tries {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let id = delivery.envelope.id.as_str();
        let soon = Some(Duration::from_millis(20));
        match id.split('-').next() {
            Some("error") => Err(Failure::Retry { reason: "no".into(), delay: soon }),
            Some("panic") if delivery.attempt < 2 => panic!("poison"),
            // It ends when it is cancelled, and not before.
            Some("loop") if delivery.attempt < 2 => std::future::pending().await,
            _ => self.handling.handle(delivery).await,
        }
    }
}

/// Errors exhaust, a panic and an endless handler are tried again, and whatever lies beside goes on.
pub(super) async fn handlers(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let group = Group {
        max_processing: Some(Duration::from_millis(1_500)),
        concurrency: 8,
        ..stage.group("poisoned", Mode::Keyed)?
    };
    witness.declare(&group, true).await?;
    let ids = ["error-1", "good-1", "panic-1", "good-2", "loop-1", "good-3", "error-2", "good-4"];
    for (number, id) in ids.into_iter().enumerate() {
        let event = stage.event(id, &format!("k{}", number % 4))?;
        witness.publish("p", vec![event], bus::PublishOptions::default()).await?;
    }
    let effects = Effects::default();
    let stops = [consume(&witness, stage, &group, &effects), consume(&witness, stage, &group, &effects)];
    ends(&witness, &group.name, 2).await;
    let letters = witness.bus.dead_letters(&group.name, (0, 0), 10).await?;
    let told: Vec<_> = letters.iter().map(|letter| (letter.envelope.id.as_str(), letter.reason.as_str())).collect();
    anyhow::ensure!(told == [("error-1", "exhausted"), ("error-2", "exhausted")], "{told:?}");
    stops.iter().for_each(CancellationToken::cancel);
    witness.history.write(What::Rest);
    verify::load::audit(&witness).await
}

/// A process that dies of an event three times: a crash loop, and nobody else pays.
pub(super) async fn aborts(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let group = Group { concurrency: 1, ..super::handled(stage) };
    witness.declare(&group, true).await?;
    witness.publish("p", vec![stage.event("poison", "k")?], bus::PublishOptions::default()).await?;
    drop(witness);
    for number in 1..=3 {
        let address = lab.address().await;
        let role = Role::Handles { point: Point::Begun, nth: 1, slow: Duration::ZERO };
        let mut child = Child::start(stage, (lab.backend(), address), role, number, None);
        child.ended().await;
        child.tell(stage);
        let witness = stage.witness(lab.node().await?);
        witness.harmed("child", Harm::Member { member: "child".into() });
        witness.harmed("child", Harm::Restart);
        witness.healed("child");
    }
    let witness = stage.witness(lab.node().await?);
    witness.publish("p", vec![stage.event("good", "k")?], bus::PublishOptions::default()).await?;
    let stop = consume(&witness, stage, &group, &Effects::default());
    ends(&witness, &group.name, 1).await;
    let letters = witness.bus.dead_letters(&group.name, (0, 0), 10).await?;
    let told: Vec<_> = letters.iter().map(|letter| (letter.envelope.id.as_str(), letter.reason.as_str())).collect();
    anyhow::ensure!(told == [("poison", "crash_loop")], "{told:?}");
    stop.cancel();
    witness.history.write(What::Rest);
    verify::load::audit(&witness).await
}

fn consume(witness: &Witness, stage: &Stage, group: &Group, effects: &Effects) -> CancellationToken {
    let member = format!("consumer-{}", witness.history.op());
    let handling = Handling {
        history: witness.history.clone(),
        group: group.name.clone(),
        rng: Mutex::new(stage.rng(&member)),
        member,
        effects: effects.clone(),
        slow: Duration::ZERO,
        fails: 0,
        panics: 0,
    };
    let consumer = Consumer::new(witness.bus.clone(), group.clone(), Arc::new(Tries { handling }));
    let drop = CancellationToken::new();
    tokio::spawn(consumer.run(CancellationToken::new(), drop.clone()));
    drop
}

/// Waits until nothing is left but so many letters.
async fn ends(witness: &Witness, group: &str, dead: u64) {
    testkit::eventually("everything has ended", 2 * SOON, async || {
        let groups = witness.bus.groups().await.ok()?;
        groups.iter().any(|status| status.name == group && status.lag == 0 && status.dead == dead).then_some(())
    })
    .await;
}
