//! What the server must be, looked at when the bus is opened: a bus on one that evicts keys would lose events silently.

use std::{collections::HashMap, sync::atomic::Ordering};

use super::{server::Server, shared::Shared};
use crate::Error;

/// The first version that is enough.
const MAJOR: u32 = 7;

/// # Errors
/// If the server can't keep what the bus promises; the text says what to change.
pub(super) async fn check(server: &Server) -> anyhow::Result<()> {
    let pong: String = server.ask(&redis::cmd("PING")).await?;
    anyhow::ensure!(pong == "PONG", "what answers is no Redis");
    let info: String = server.ask(redis::cmd("INFO").arg("server").arg("replication").arg("memory")).await?;
    let version = field(&info, "redis_version").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    anyhow::ensure!(
        major.is_some_and(|major| major >= MAJOR),
        "Redis is of version {version:?}: the bus needs {MAJOR}.0 or later"
    );
    let role = field(&info, "role").unwrap_or_default();
    anyhow::ensure!(role == "master", "Redis is a {role} here: the bus needs the URL of the primary");
    let policy = field(&info, "maxmemory_policy").unwrap_or_default();
    anyhow::ensure!(
        policy == "noeviction",
        "Redis evicts keys when its memory is full (maxmemory-policy {policy}): set it to noeviction, or events are lost silently"
    );
    Ok(())
}

/// Learns whether the server writes everything to disk before it answers; not, where it won't tell.
pub(super) async fn learn(shared: &Shared) -> Result<(), Error> {
    let asked = shared.server.ask_if_allowed(redis::cmd("CONFIG").arg("GET").arg("append*")).await?;
    let settings: HashMap<String, String> = asked.unwrap_or_default();
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|set| set == value);
    shared.fsyncs.store(is("appendonly", "yes") && is("appendfsync", "always"), Ordering::Relaxed);
    Ok(())
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
