//! Who is connected, in every process: each tells of its own connections in a hash that vanishes when it stops telling.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::shared::Shared;
use crate::{Connection, Error};

/// How often a node says that it is there, and how long it counts as being there after that.
const REFRESH: Duration = Duration::from_secs(5);
const LIFE: Duration = Duration::from_secs(15);
/// Changes that come together are told together.
const PAUSE: Duration = Duration::from_millis(100);
/// A node that wasn't heard of for so long is off the list, in milliseconds.
const FORGOTTEN: i64 = 3_600_000;
/// Nodes and connections that are told of at most.
const NODES: isize = 256;
const CONNECTIONS: usize = 10_000;

/// Tells of this node's connections, from the first one until the bus is closed, then that it is gone.
pub(super) async fn tell(shared: Arc<Shared>) {
    let mut changed = shared.roster.changed();
    // Who has no connections has nothing to tell: an operator's command comes and goes, and nobody misses it.
    while shared.roster.here().is_empty() {
        tokio::select! {
            () = shared.closed.cancelled() => return,
            _ = changed.changed() => {}
        }
    }
    let mut told = None;
    while !shared.closed.is_cancelled() {
        changed.borrow_and_update();
        let mut telling = tell_once(&shared, told).await;
        if let Ok(None) = telling {
            telling = tell_once(&shared, None).await;
        }
        told = telling.unwrap_or_else(|error| {
            tracing::debug!(%error, "the roster was not told");
            None
        });
        tokio::select! {
            () = shared.closed.cancelled() => break,
            () = tokio::time::sleep(REFRESH) => {}
            _ = changed.changed() => {
                shared.closed.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
    }
    let (keys, id) = (shared.keys(), shared.roster.node());
    let mut gone = redis::pipe();
    gone.del(keys.node(id)).ignore().zrem(keys.nodes(), id).ignore();
    let _: Result<(), Error> = shared.server.ask_all(&gone).await;
}

/// Tells what changed since `told` (None: it isn't known what was told), and says that the node is there. What is known
/// to be told after that, if it is.
async fn tell_once(
    shared: &Shared,
    told: Option<HashMap<String, String>>,
) -> Result<Option<HashMap<String, String>>, Error> {
    let here: HashMap<String, String> = shared
        .roster
        .here()
        .into_iter()
        .filter_map(|connection| Some((connection.id.clone(), serde_json::to_string(&connection).ok()?)))
        .collect();
    let (keys, id) = (shared.keys(), shared.roster.node());
    let node = keys.node(id);
    let mut pipeline = redis::pipe();
    if told.is_none() {
        pipeline.del(&node).ignore();
    }
    let told = told.unwrap_or_default();
    let news: Vec<(&String, &String)> = here.iter().filter(|(id, json)| told.get(*id) != Some(json)).collect();
    if !news.is_empty() {
        pipeline.hset_multiple(&node, &news).ignore();
    }
    let gone: Vec<&String> = told.keys().filter(|id| !here.contains_key(*id)).collect();
    if !gone.is_empty() {
        pipeline.hdel(&node, &gone).ignore();
    }
    let (now, life) = (shared.now(), i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX));
    pipeline.zadd(keys.nodes(), id, now).ignore();
    pipeline.zrembyscore(keys.nodes(), "-inf", now - FORGOTTEN).ignore();
    pipeline.hlen(&node).pexpire(&node, life).ignore();
    let (kept,): (usize,) = shared.server.ask_all(&pipeline).await?;
    // Otherwise somebody flushed it.
    Ok((kept == here.len()).then_some(here))
}

/// The nodes that were there within the hour, don't tell any more and didn't say that they go; and for how many milliseconds.
pub(super) async fn silent(shared: &Shared) -> Result<Vec<(String, i64)>, Error> {
    let now = shared.now();
    let before = now - i64::try_from(LIFE.as_millis()).unwrap_or(i64::MAX);
    let mut range = redis::cmd("ZRANGEBYSCORE");
    range.arg(shared.keys().nodes()).arg(now - FORGOTTEN).arg(before).arg("WITHSCORES");
    let nodes: Vec<(String, f64)> = shared.server.ask(&range).await?;
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970 are exact in a double")]
    let silent = nodes.into_iter().map(|(node, told)| (node, now - told as i64));
    Ok(silent.collect())
}

/// Those of this node as they are now, of the others as they told last.
pub(super) async fn connections(shared: &Shared) -> Result<Vec<Connection>, Error> {
    let keys = shared.keys();
    let nodes: Vec<String> = shared.server.ask(redis::cmd("ZREVRANGE").arg(keys.nodes()).arg(0).arg(NODES - 1)).await?;
    let mut connections = BTreeMap::new();
    for node in nodes.iter().filter(|node| *node != shared.roster.node()) {
        if connections.len() >= CONNECTIONS {
            break;
        }
        let told: Vec<String> = shared.server.ask(redis::cmd("HVALS").arg(keys.node(node))).await?;
        let told = told.iter().filter_map(|json| serde_json::from_str::<Connection>(json).ok());
        connections.extend(told.map(|connection| (connection.id.clone(), connection)));
    }
    connections.extend(shared.roster.here().into_iter().map(|connection| (connection.id.clone(), connection)));
    Ok(connections.into_values().take(CONNECTIONS).collect())
}
