//! F1 of receipts: whoever gives them dies at it, and somebody else gives the others, each once (I9).

use std::time::Duration;

use bus::{Bus, Mode, PublishOptions, Receipts};
use events::{Envelope, Name};
use nix::sys::signal::Signal;
use time::Duration as Step;
use tokio_util::sync::CancellationToken;
use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
    load::{Witness, audit, receipts},
};

use super::{SOON, clock::acknowledge_all};
use crate::lab::{Child, Lab, Role};

const EVENTS: usize = 30;
/// What a giver holds that is gone comes to another one after this.
const LEASE: Step = Step::seconds(31);

pub(super) async fn killed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let group = stage.group("works", Mode::Keyed)?;
    witness.declare(&group, false).await?;
    let replies = Name::new(&format!("{}-R", stage.queue()?))?;
    let publish = async |name: &str| {
        let wanting = |number: usize| {
            let event = stage.event(&format!("{name}-{number}"), &format!("k{}", number % 5))?;
            Ok(Envelope { replyto: Some(format!("queue:{replies}")), ..event })
        };
        let events = (0..EVENTS).map(wanting).collect::<anyhow::Result<Vec<_>>>()?;
        for outcome in witness.publish("p", events, PublishOptions::default()).await? {
            outcome?;
        }
        anyhow::Ok(())
    };
    let mut child = Child::start(stage, (lab.backend(), lab.address().await), Role::Gives, 1, None);
    publish("first").await?;
    acknowledge_all(&witness, &group.name).await?;
    // It is at the next ones when it dies.
    given(&witness, &replies, EVENTS / 3).await;
    child.signal(Signal::SIGKILL);
    child.ended().await;
    child.tell(stage);
    witness.harmed("child", Harm::Member { member: "child".into() });
    witness.harmed("child", Harm::Clock { by_ms: i64::try_from(LEASE.whole_milliseconds())? });
    lab.clock().step(LEASE);
    lab.housekeep().await?;
    witness.healed("child");
    let stop = CancellationToken::new();
    let giving = tokio::spawn(give(witness.bus.clone(), stop.clone()));
    publish("second").await?;
    acknowledge_all(&witness, &group.name).await?;
    given(&witness, &replies, 2 * EVENTS).await;
    stop.cancel();
    giving.await?;
    receipts(&witness, &replies).await?;
    witness.history.write(What::Rest);
    audit(&witness).await
}

/// Gives receipts, as a broker does, until it is told to end, or dies.
pub(crate) async fn give(bus: Bus, stop: CancellationToken) {
    Receipts::new(bus).run(stop, CancellationToken::new()).await;
}

/// Waits until so many receipts have come.
async fn given(witness: &Witness, replies: &Name, count: usize) {
    testkit::eventually(&format!("{count} receipts come"), 2 * SOON, async || {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let page = witness.bus.read(replies, 0, u64::MAX >> 1, 1).await.ok()?;
        (page.next > count as u64).then_some(())
    })
    .await;
}
