//! F24: the process that owns a SQLite file dies.

use std::time::Duration;

use verify::{Site as _, contract::Stage, history::Harm, load::Traffic};

use super::plan;
use crate::lab::{Child, Lab, Role};

const KILLS: usize = 3;
/// Entries that a child writes before it dies.
const BUSY: usize = 300;

pub(super) async fn killed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    for round in 0..stage.times(KILLS) {
        let address = lab.address().await;
        let mut child = Child::start(stage, (lab.backend(), address), Role::Traffic { round }, 1 + round as u64, None);
        testkit::eventually("the child works", Duration::from_secs(60), async || {
            (child.entries().len() >= BUSY).then_some(())
        })
        .await;
        child.kill();
        child.tell(stage);
        let witness = stage.witness(lab.node().await?);
        witness.harmed("kill", Harm::Restart);
        witness.harmed("kill", Harm::Outage);
        witness.healed("kill");
    }
    let bus = lab.node().await?;
    let witness = stage.witness(bus.clone());
    Traffic::start(&witness, &[bus], &plan(stage, "last", 20)?, stage.seed).await?.rest().await
}
