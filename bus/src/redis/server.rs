//! The connection to the server: shared, pipelining, made again when it breaks. Whatever goes wrong is
//! [`Error::Unavailable`] with a short reason: whoever asked may ask again.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use redial::{Address, Node, Patience, Redis};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value,
    aio::{MultiplexedConnection, PubSub},
};

use super::script::Script;
use crate::{Error, metrics};

/// The longest a connection, and an answer, is waited for.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);
/// Attempts at a new connection before those who wait are told; whoever asks next begins anew.
const ATTEMPTS: u32 = 5;

pub(super) struct Server {
    redis: Redis,
    /// How long an answer takes of late, in microseconds.
    pace: AtomicU64,
}

impl Server {
    /// # Errors
    /// If nobody answers there.
    pub(super) async fn connect(address: Address) -> anyhow::Result<Self> {
        let patience = Patience { connect: CONNECT, answer: ANSWER, attempts: ATTEMPTS };
        let shown = address.to_string();
        let redis = Redis::connect(address, patience).await;
        let redis = redis.with_context(|| format!("Redis doesn't answer at {shown}"))?;
        Ok(Self { redis, pace: AtomicU64::new(0) })
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, Error> {
        self.attempt(cmd).await.map_err(|error| unavailable(&error))
    }

    /// Several commands in one round trip, their answers in their order.
    pub(super) async fn ask_all<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> Result<T, Error> {
        let began = Instant::now();
        let answer = pipeline.query_async(&mut self.redis.clone()).await;
        self.answered(began.elapsed());
        answer.map_err(|error| unavailable(&error))
    }

    /// Asks the same of each server that has data, one or several.
    pub(super) async fn ask_each(&self, cmd: &Cmd) -> Result<Vec<(Node, RedisResult<Value>)>, Error> {
        self.redis.ask_each(cmd).await.map_err(|error| unavailable(&error))
    }

    /// Calls a script by its hash, or with its text where the server doesn't know it. One it doesn't know did nothing.
    pub(super) async fn call(&self, script: &Script, call: &Cmd) -> Result<Value, Error> {
        let answer = match self.attempt(call).await {
            Err(error) if is_unknown_script(&error) => self.attempt(&script.with_text(call)).await,
            answer => answer,
        };
        answer.map_err(|error| unavailable(&error))
    }

    /// A connection of its own that hears what is said on a channel.
    pub(super) async fn listen(&self, channel: &str) -> Result<PubSub, RedisError> {
        self.redis.listen(channel).await
    }

    pub(super) fn redis(&self) -> &Redis {
        &self.redis
    }

    /// The server that has a key, as far as it matters whether two are on the same one.
    pub(super) fn node_of(&self, key: &str) -> String {
        self.redis.node_of(key).map(|node| node.to_string()).unwrap_or_default()
    }

    /// A connection of its own to the server that has a key: for what must be asked on the same one, or waits.
    pub(super) async fn own(&self, key: &str) -> Result<MultiplexedConnection, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
        self.redis.own(key, &config).await
    }

    /// How long an answer takes of late: each counts for an eighth.
    pub(super) fn pace(&self) -> Duration {
        Duration::from_micros(self.pace.load(Relaxed))
    }

    fn answered(&self, time: Duration) {
        metrics::redis_round_trip(time);
        let before = self.pace.load(Relaxed);
        let now = u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 8);
        // Two at once may lose one of them: it is a tendency.
        self.pace.store(if before == 0 { now } else { before - before / 8 + now / 8 }, Relaxed);
    }

    async fn attempt<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, RedisError> {
        let began = Instant::now();
        let answer = cmd.query_async(&mut self.redis.clone()).await;
        self.answered(began.elapsed());
        answer
    }
}

pub(super) fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

pub(super) fn unavailable(error: &RedisError) -> Error {
    let reason = match error.code() {
        Some("OOM") => {
            "redis is out of memory: it takes nothing new until something is settled, trimmed or deleted".to_owned()
        }
        Some("MISCONF") => format!("redis can't write to its disk, and takes nothing until it can: {error}"),
        Some("READONLY") => "redis is a replica now".to_owned(),
        Some("CLUSTERDOWN") => "the redis cluster is down, or has nobody for the slot".to_owned(),
        Some("TRYAGAIN" | "ASK" | "MOVED") => "the partition is on its way to another redis node".to_owned(),
        Some("NOPERM") => format!("redis refuses: {error}: see the user's ACL rules in docs/redis.md"),
        Some("LOADING") => "redis is loading its data".to_owned(),
        Some(_) => format!("redis refuses: {error}"),
        None => format!("redis doesn't answer: {error}"),
    };
    Error::Unavailable(reason)
}

/// An answer that isn't what the script gives.
pub(super) fn unexpected() -> Error {
    Error::Unavailable("redis gave an answer that makes no sense".to_owned())
}
