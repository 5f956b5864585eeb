//! The bus on Redis Streams, shared by many processes. Redis 7.0 is enough.
//!
//! A partition is a stream whose entries hold one or more events, and a hash about it. Whatever changes it is a Lua
//! script, whole or not at all, which first finds the partition's lineage: a server that restarted, failed over or was
//! flushed begins a new one on the spot. Payloads are read outside scripts. A publish is confirmed `stored` when the
//! primary has it, `fsynced` where the server writes everything to disk before it answers (`appendfsync always`) or can
//! tell when it has (WAITAOF, 7.2), `replicated:n` by WAIT.
//! Pub/Sub carries hints that something changed; since they can be lost, every partition that is followed is also looked
//! at once a second. A user of Redis needs its namespace's keys and channels, and `+@all -@dangerous +info`; with
//! `+config|get` besides, the bus can tell whether it may confirm `fsynced`. While Redis is away every call is
//! [`crate::Error::Unavailable`]; when it is back, the bus works again.

mod attendance;
mod bookmark;
mod erase;
mod examine;
mod group;
mod guard;
mod handle;
mod import;
mod keys;
mod latest;
mod lead;
mod log;
mod node;
mod offer;
mod place;
mod publish;
mod publisher;
mod queue;
mod recent;
mod registry;
mod retention;
mod schedule;
mod script;
mod server;
mod shared;
mod sys;
mod wait;
mod wake;

use std::sync::Arc;

pub use erase::erase;
pub use examine::{Finding, Level, examine};
pub use handle::Redis;
pub(crate) use import::{Target, There};
pub use redial::Address;

use crate::{Bus, Clock};

/// How to open a bus on Redis.
#[derive(Clone)]
pub struct Options {
    /// What every key begins with, so that several systems can share a server; `tp` by default.
    pub namespace: String,
    /// Events that a partition's dedupe window holds at most, about 150 bytes each in Redis.
    pub dedupe_events: usize,
    /// Events of a partition that wait for their time at most.
    pub scheduled_events: usize,
    /// For tests: tells the time instead of the server's clock.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Default for Options {
    /// The namespace `tp`, 262,144 events, 100,000 that wait, the server's clock.
    fn default() -> Self {
        Self { namespace: keys::NAMESPACE.to_owned(), dedupe_events: 1 << 18, scheduled_events: 100_000, clock: None }
    }
}

/// Connects, and checks that the server can keep what the bus promises.
///
/// # Errors
/// If the address is none, nobody answers, or the server is older than 7.0, evicts keys or is a replica.
pub async fn open<A>(address: A) -> anyhow::Result<Bus>
where
    A: TryInto<Address, Error: Into<anyhow::Error>>,
{
    open_with(address, Options::default()).await
}

/// [`open`], otherwise than by default.
///
/// # Errors
/// As [`open`].
pub async fn open_with<A>(address: A, options: Options) -> anyhow::Result<Bus>
where
    A: TryInto<Address, Error: Into<anyhow::Error>>,
{
    Ok(Bus::new(Redis::open(address, options).await?))
}
