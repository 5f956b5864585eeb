//! What the server must be, looked at when the bus is opened and every ten seconds after: a bus on one that evicts keys
//! would lose events silently, so that nothing is published there until it doesn't.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;

use super::{
    examine::{self, Finding, Level},
    keys::Keys,
    server::Server,
    shared::Shared,
};
use crate::{Error, metrics};

const LOOK: Duration = Duration::from_secs(10);

/// # Errors
/// If the server can't keep what the bus promises; the text says what to change.
pub(super) async fn check(server: &Server, keys: &Keys) -> anyhow::Result<()> {
    let mut findings: Vec<Finding> = survey(server).await?;
    // What is wrong with the server says more than what it refuses because of that.
    if findings.iter().all(|finding| finding.level < Level::Fault) {
        findings.extend(examine::rights(server, keys).await?);
    }
    for finding in findings.iter().filter(|finding| finding.level == Level::Warning) {
        tell(finding);
    }
    match findings.into_iter().find(|finding| finding.level == Level::Fault) {
        Some(Finding { what, advice, .. }) => Err(anyhow::anyhow!("{what}: {advice}")),
        None => Ok(()),
    }
}

/// Looks every ten seconds, until the bus is closed.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut known = BTreeMap::new();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.closed.run_until_cancelled(ticks.tick()).await.is_some() {
        // That it is away is told elsewhere.
        if let Some(Ok(findings)) = shared.closed.run_until_cancelled(survey(&shared.server)).await {
            look(&shared, &mut known, findings);
        }
    }
}

/// Looks now. For tests, which don't wait.
pub(super) async fn look_now(shared: &Shared) -> Result<(), Error> {
    let findings = survey(&shared.server).await?;
    look(shared, &mut BTreeMap::new(), findings);
    Ok(())
}

/// Takes in what is so now; `known`: how bad each thing was.
fn look(shared: &Shared, known: &mut BTreeMap<&'static str, Level>, findings: Vec<Finding>) {
    let mut now: BTreeMap<&'static str, Level> = BTreeMap::new();
    for finding in &findings {
        let level = now.entry(finding.guard).or_insert(Level::Fine);
        *level = finding.level.max(*level);
    }
    for finding in &findings {
        let before = known.get(finding.guard).copied().unwrap_or(Level::Fine);
        if finding.level > before {
            tell(finding);
        }
    }
    for (guard, level) in &now {
        if *level == Level::Fine && known.get(guard).is_some_and(|before| *before > Level::Fine) {
            tracing::info!(guard, "as it should be again");
        }
        metrics::redis_guard(guard, *level);
    }
    let refuses = findings.into_iter().find(|finding| finding.guard == "eviction" && finding.level == Level::Fault);
    shared.refuse(refuses.map(|Finding { what, advice, .. }| format!("{what}: {advice}")));
    *known = now;
}

async fn survey(server: &Server) -> Result<Vec<Finding>, Error> {
    let surveys = examine::survey(server).await?;
    let furthest = surveys.iter().map(|survey| survey.skew).max_by_key(|skew| skew.abs());
    metrics::redis_clock_skew(furthest.unwrap_or(0));
    Ok(surveys.into_iter().flat_map(|survey| survey.findings).collect())
}

fn tell(Finding { guard, what, advice, level }: &Finding) {
    match level {
        Level::Fault => tracing::error!(guard, what, advice, "redis isn't as the bus needs it"),
        _ => tracing::warn!(guard, what, advice, "redis isn't as it should be"),
    }
}
