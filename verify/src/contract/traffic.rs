//! C1: everybody at once, and nothing breaks.

use std::time::Duration;

use bus::{Mode, PublishOptions};

use super::Stage;
use crate::{
    Site,
    load::{Habit, Plan, Team, Traffic},
};

pub(super) async fn fan_out(site: &(dyn Site + '_), stage: &Stage) -> anyhow::Result<()> {
    let nodes = [site.node().await?, site.node().await?];
    let witness = stage.witness(nodes[0].clone());
    let plan = plan(stage)?;
    Traffic::start(&witness, &nodes, &plan, stage.seed).await?.rest().await
}

/// A group of every mode, by hand and by handlers.
pub(crate) fn plan(stage: &Stage) -> anyhow::Result<Plan> {
    let habit = Habit { at_once: 8, ..Habit::default() };
    let slow = Duration::from_millis(2);
    Ok(Plan {
        wares: stage.wares(10)?,
        publishers: 3,
        events: stage.times(60),
        batch: 8,
        pause: Duration::from_millis(5),
        options: PublishOptions::default(),
        teams: vec![
            Team::by_hand(stage.group("parallel", Mode::Parallel)?, 3, habit),
            Team::by_hand(stage.group("keyed", Mode::Keyed)?, 3, habit),
            Team::by_hand(stage.group("exclusive", Mode::Exclusive)?, 2, habit),
            Team::of_consumers(stage.group("handlers", Mode::Keyed)?, 2, slow),
        ],
        readers: 2,
    })
}
