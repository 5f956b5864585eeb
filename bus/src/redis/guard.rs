//! What the server must be, looked at when the bus is opened: a bus on one that evicts keys would lose events silently.

use super::server::Server;

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

pub(super) fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}
