//! What is true of a Redis that matters to the bus, each with what to do about it: for a guard at the start, for one that
//! looks now and then, and for an operator who asks.

mod info;
mod look;
mod rights;

use std::time::Duration;

use redial::{Address, Node};
use redis::{RedisResult, Value};
use serde::Serialize;

use super::{keys::Keys, server::Server};
use crate::Error;
use info::Info;

/// Asked to find out how long an answer takes.
const PINGS: usize = 3;

/// Something about a Redis that matters to the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `reach`, `version`, `role`, `eviction`, `memory`, `persistence`, `replicas`, `clock`, `latency`,
    /// `cluster`, `rights`.
    pub guard: &'static str,
    pub level: Level,
    /// What is so, and on which of several servers.
    pub what: String,
    /// What to do about it; empty where nothing need be done.
    pub advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Fine,
    /// The bus works; something may go wrong.
    Warning,
    /// The bus can't keep what it promises: it doesn't start so.
    Fault,
}

/// What was found out about one server.
pub(super) struct Survey {
    pub(super) findings: Vec<Finding>,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub(super) skew: i64,
}

/// Looks at a Redis as an operator would who knows what a bus in this namespace needs. That it can't be reached is a finding.
pub async fn examine<A>(address: A, namespace: &str) -> Vec<Finding>
where
    A: TryInto<Address, Error: Into<anyhow::Error>>,
{
    let unreached = |error: anyhow::Error| {
        let advice = "see that it runs and listens there, and that the password and certificates are right";
        vec![fault("reach", format!("{error:#}"), advice)]
    };
    let server = match address.try_into() {
        Ok(address) => Server::connect(address).await,
        Err(error) => Err(error.into()),
    };
    let server = match server {
        Ok(server) => server,
        Err(error) => return unreached(error),
    };
    let mut findings = vec![fine("reach", format!("reached at {}", server.redis().address()))];
    match survey(&server).await {
        Ok(surveys) => findings.extend(surveys.into_iter().flat_map(|survey| survey.findings)),
        Err(error) => return unreached(error.into()),
    }
    match rights::examine(&server, &Keys::new(namespace)).await {
        Ok(rights) => findings.extend(rights),
        Err(error) => findings.extend(unreached(error.into())),
    }
    findings
}

/// What the bus may not do there, of all that it needs.
pub(super) async fn rights(server: &Server, keys: &Keys) -> Result<Vec<Finding>, Error> {
    rights::examine(server, keys).await
}

/// Looks at each server that has data.
pub(super) async fn survey(server: &Server) -> Result<Vec<Survey>, Error> {
    let asked_at = std::time::Instant::now();
    let answers = server.ask_each(&redis::cmd("INFO")).await?;
    let took = asked_at.elapsed();
    let several = answers.len() > 1;
    let mut surveys = Vec::new();
    for (node, info) in answers {
        let mut survey = survey_node(server, &node, info, took).await;
        if several {
            survey.findings.iter_mut().for_each(|finding| finding.what = format!("{node}: {}", finding.what));
        }
        surveys.push(survey);
    }
    Ok(surveys)
}

async fn survey_node(server: &Server, node: &Node, info: RedisResult<Value>, took: Duration) -> Survey {
    let text = info.and_then(|info| Ok(redis::from_redis_value::<String>(info)?));
    let info = match text {
        Ok(text) => Info::read(&text),
        Err(error) => {
            let what = format!("it doesn't say how it is: {error}");
            let finding = match error.code() {
                Some("NOPERM") => fault("reach", what, "let the user ask: +info"),
                // One node of a Cluster that is away leaves the others.
                _ => warning("reach", what, "see that it runs"),
            };
            return Survey { findings: vec![finding], skew: 0 };
        }
    };
    let fsync = setting(server, node, "appendfsync").await;
    let mut findings = vec![
        look::version(&info),
        look::role(&info),
        look::eviction(&info),
        look::memory(&info),
        look::persistence(&info, fsync.as_deref()),
        look::replicas(&info),
    ];
    let (clock, skew) = look::clock(&info, took);
    findings.push(clock);
    findings.push(look::latency(fastest(server, node).await));
    let state = server.redis().ask_node(node, redis::cmd("CLUSTER").arg("INFO")).await;
    let state = state.and_then(|state| Ok(redis::from_redis_value::<String>(state)?)).unwrap_or_default();
    findings.push(look::cluster(&info, server.redis().is_cluster(), &Info::read(&state)));
    Survey { findings, skew }
}

/// None where it won't tell.
async fn setting(server: &Server, node: &Node, name: &str) -> Option<String> {
    let answer = server.redis().ask_node(node, redis::cmd("CONFIG").arg("GET").arg(name)).await.ok()?;
    redis::from_redis_value::<Vec<String>>(answer).ok()?.into_iter().nth(1)
}

async fn fastest(server: &Server, node: &Node) -> Duration {
    let mut fastest = Duration::MAX;
    for _ in 0..PINGS {
        let began = std::time::Instant::now();
        if server.redis().ask_node(node, &redis::cmd("PING")).await.is_ok() {
            fastest = fastest.min(began.elapsed());
        }
    }
    fastest
}

fn finding(level: Level, guard: &'static str, what: String, advice: &str) -> Finding {
    Finding { guard, level, what, advice: advice.to_owned() }
}

fn fine(guard: &'static str, what: String) -> Finding {
    finding(Level::Fine, guard, what, "")
}

fn warning(guard: &'static str, what: String, advice: &str) -> Finding {
    finding(Level::Warning, guard, what, advice)
}

fn fault(guard: &'static str, what: String, advice: &str) -> Finding {
    finding(Level::Fault, guard, what, advice)
}
