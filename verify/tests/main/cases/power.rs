//! F5: Redis dies in traffic, and keeps all, most or nothing of what it was told.

use std::{fs, time::Duration};

use verify::{Site as _, contract::Stage, history::Harm, load::Traffic};

use super::plan;
use crate::lab::Lab;

/// So many times, at moments that the machine chooses.
const KILLS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(400);

pub(super) async fn killed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    die(lab, stage, async |witness| {
        witness.harmed("kill", Harm::Outage);
        let mut server = lab.redis().server.lock().await;
        server.restart().await;
        witness.healed("kill");
    })
    .await
}

/// What was written after a moment is cut off, but for some bytes of it.
pub(super) async fn torn(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    die(lab, stage, async |witness| {
        let log = lab.redis().log();
        let kept = fs::metadata(&log).unwrap().len();
        // While it flushes, Redis holds back what it writes, for two seconds at most.
        let since = witness.history.now().saturating_sub(2_000_000);
        tokio::time::sleep(BETWEEN / 2).await;
        witness.harmed("power", Harm::Outage);
        witness.harmed("power", Harm::PowerLoss { since });
        let mut server = lab.redis().server.lock().await;
        server.kill();
        let written = fs::metadata(&log).unwrap().len();
        fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(written.min(kept + 11)).unwrap();
        server.restart().await;
        witness.healed("power");
    })
    .await
}

pub(super) async fn forgetful(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    die(lab, stage, async |witness| {
        witness.harmed("flush", Harm::Outage);
        witness.harmed("flush", Harm::Rollback { since: 0 });
        let mut server = lab.redis().server.lock().await;
        server.restart().await;
        witness.healed("flush");
    })
    .await
}

async fn die(lab: &Lab, stage: &Stage, death: impl AsyncFn(&verify::load::Witness)) -> anyhow::Result<()> {
    let nodes = [lab.node().await?, lab.node().await?];
    let witness = stage.witness(nodes[0].clone());
    let mut traffic = Traffic::start(&witness, &nodes, &plan(stage, "p", 120)?, stage.seed).await?;
    for _ in 0..stage.times(KILLS) {
        tokio::time::sleep(BETWEEN).await;
        death(&witness).await;
    }
    traffic.published().await?;
    traffic.rest().await
}
