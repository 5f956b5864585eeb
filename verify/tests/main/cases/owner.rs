//! F6, F14, F23, F24: a SQLite file is closed, its disk is full, its journal is damaged, its owner dies, it is an old one.

use std::{fs, path::Path};

use verify::{
    Site as _,
    contract::Stage,
    history::{Harm, What},
    load::Traffic,
};

use super::{SOON, plan};
use crate::lab::{Child, Lab, Role};

const KILLS: usize = 3;
/// Entries that a child writes before it dies.
const BUSY: usize = 300;
/// KiB that a file may have.
const FULL: u64 = 400;

/// F24: killed in a commit, three times.
pub(super) async fn killed(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    for round in 0..stage.times(KILLS) {
        works_and_dies(lab, stage, round).await;
        let witness = stage.witness(lab.node().await?);
        witness.harmed("kill", Harm::Restart);
        witness.harmed("kill", Harm::Outage);
        witness.healed("kill");
    }
    finish(lab, stage).await
}

/// F24: a copy of the files is put back: what came since is gone, and that is told.
pub(super) async fn restored(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    works_and_dies(lab, stage, 0).await;
    // The next owner may be there before the leases of this one would have ended.
    for harm in [Harm::Restart, Harm::Outage] {
        stage.history.write(What::Harmed { by: "kill".into(), harm });
    }
    stage.history.write(What::Healed { by: "kill".into() });
    let copy = tempfile::tempdir()?;
    copy_files(lab.sqlite().folder.path(), copy.path());
    let since = stage.history.now();
    works_and_dies(lab, stage, 1).await;
    lab.sqlite().close();
    let witness = stage.history.clone();
    witness.write(What::Harmed { by: "copy".into(), harm: Harm::Rollback { since } });
    witness.write(What::Harmed { by: "copy".into(), harm: Harm::Restart });
    witness.write(What::Harmed { by: "copy".into(), harm: Harm::Outage });
    for file in fs::read_dir(lab.sqlite().folder.path())? {
        let file = file?.path();
        if file.is_file() {
            fs::remove_file(file)?;
        }
    }
    copy_files(copy.path(), lab.sqlite().folder.path());
    witness.write(What::Healed { by: "copy".into() });
    finish(lab, stage).await
}

/// F23: bytes of the journal's end are flipped, or missing: what they held is lost, what lies before isn't.
pub(super) async fn damaged(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    for (round, torn) in [true, false].into_iter().enumerate() {
        let wal = lab.sqlite().path().with_extension("db-wal");
        let address = lab.address().await;
        let mut child = Child::start(stage, (lab.backend(), address), Role::Traffic { round }, 1 + round as u64, None);
        busy(&child).await;
        // What lies in the journal's first part by now, stays.
        let kept = fs::metadata(&wal).map_or(0, |file| file.len());
        let since = stage.history.now();
        busy_for(&child, child.entries().len() + BUSY).await;
        child.kill();
        child.tell(stage);
        let history = stage.history.clone();
        history.write(What::Harmed { by: "wal".into(), harm: Harm::PowerLoss { since } });
        history.write(What::Harmed { by: "wal".into(), harm: Harm::Restart });
        history.write(What::Harmed { by: "wal".into(), harm: Harm::Outage });
        let mut bytes = fs::read(&wal)?;
        let at = usize::try_from(kept)?.max(bytes.len() * 3 / 4).min(bytes.len().saturating_sub(1));
        if torn {
            bytes.truncate(at);
        } else {
            bytes[at..].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
        }
        fs::write(&wal, bytes)?;
        history.write(What::Healed { by: "wal".into() });
    }
    finish(lab, stage).await
}

/// F14: the disk is full: what can't be written is refused, and what was confirmed is there.
pub(super) async fn full(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let address = lab.address().await;
    let mut child = Child::start(stage, (lab.backend(), address), Role::Fills, 1, Some(FULL));
    child.ended().await;
    let refused = child.entries().iter().any(|entry| matches!(entry.what, What::PublishFailed { .. }));
    child.tell(stage);
    anyhow::ensure!(refused, "the disk was never full");
    let history = stage.history.clone();
    history.write(What::Harmed { by: "disk".into(), harm: Harm::Restart });
    history.write(What::Healed { by: "disk".into() });
    finish(lab, stage).await
}

/// F6: closed and opened again between two loads.
pub(super) async fn reopened(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    for round in 0..stage.times(2) {
        let bus = lab.node().await?;
        let witness = stage.witness(bus.clone());
        let plan = plan(stage, &format!("p{round}"), 20)?;
        Traffic::start(&witness, &[bus], &plan, stage.seed).await?.stopped().await?;
        witness.harmed("reopen", Harm::Restart);
        drop(witness);
        lab.sqlite().close();
        stage.witness(lab.node().await?).healed("reopen");
    }
    finish(lab, stage).await
}

async fn works_and_dies(lab: &Lab, stage: &Stage, round: usize) {
    let address = lab.address().await;
    let mut child = Child::start(stage, (lab.backend(), address), Role::Traffic { round }, 1 + round as u64, None);
    busy(&child).await;
    child.kill();
    child.tell(stage);
}

async fn busy(child: &Child) {
    busy_for(child, BUSY).await;
}

async fn busy_for(child: &Child, entries: usize) {
    testkit::eventually("the child works", 2 * SOON, async || (child.entries().len() >= entries).then_some(())).await;
}

async fn finish(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let bus = lab.node().await?;
    let witness = stage.witness(bus.clone());
    Traffic::start(&witness, &[bus], &plan(stage, "last", 20)?, stage.seed).await?.rest().await
}

fn copy_files(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
        }
    }
}
