//! The suite on the Redis backend, each scenario on a server of its own, and what only that backend promises.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{
    Bus,
    redis::{Options, Redis},
};
use parking_lot::Mutex;
use time::OffsetDateTime;

use crate::conformance::{self, Lab};

mod between;
mod cluster;
mod confirm;
mod fault;
mod group;
mod loss;
mod network;
mod node;
mod opening;
mod present;
mod sentinel;
mod storm;
mod told;
mod trim;

conformance::suite!(crate::redis::RedisLab::open);

/// A clock that moves when told.
#[derive(Clone)]
struct Manual(Arc<Mutex<OffsetDateTime>>);

impl bus::Clock for Manual {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock()
    }
}

struct RedisLab {
    server: testkit::Redis,
    clock: Manual,
    backend: Redis,
}

impl RedisLab {
    async fn open() -> Self {
        Self::on(testkit::redis().await).await
    }

    async fn on(server: testkit::Redis) -> Self {
        let clock = Manual(Arc::new(Mutex::new(OffsetDateTime::now_utc())));
        let backend = open(&server.url(), &clock).await;
        Self { server, clock, backend }
    }
}

/// Waits until something holds; at most half a minute.
async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    testkit::eventually(what, Duration::from_secs(30), || {
        let holding = holds();
        async move { holding.await.then_some(()) }
    })
    .await;
}

/// What an operator might type; its answer as text.
async fn command(server: &testkit::Redis, words: &[&str]) -> String {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let (name, arguments) = words.split_first().unwrap();
    let answer: redis::Value = redis::cmd(name).arg(arguments).query_async(&mut connection).await.unwrap();
    redis::from_redis_value(answer).unwrap_or_default()
}

/// The server's file of commands, and its length with everything in it that was answered: where the disk is busy, the server
/// writes later.
async fn written(server: &testkit::Redis) -> (PathBuf, u64) {
    eventually("all is written", async || {
        command(server, &["INFO", "persistence"]).await.contains("aof_buffer_length:0")
    })
    .await;
    let file = server.folder().join("appendonlydir/appendonly.aof.1.incr.aof");
    let length = std::fs::metadata(&file).unwrap().len();
    (file, length)
}

async fn open(url: &str, clock: &Manual) -> Redis {
    let options = Options { clock: Some(Arc::new(clock.clone())), ..Options::default() };
    Redis::open(url, options).await.unwrap()
}

#[async_trait]
impl Lab for RedisLab {
    fn bus(&self) -> Bus {
        Bus::new(self.backend.clone())
    }

    fn clock(&self) -> Arc<dyn bus::Clock> {
        Arc::new(self.clock.clone())
    }

    fn let_pass(&self, by: Duration) {
        *self.clock.0.lock() += by;
    }

    fn step_back(&self, by: Duration) {
        *self.clock.0.lock() -= by;
    }

    async fn advance(&self, by: Duration) {
        *self.clock.0.lock() += by;
        self.backend.housekeep().await.unwrap();
    }

    async fn kill_and_reopen(&mut self) {
        self.server.kill();
        self.server.restart().await;
        self.backend = open(&self.server.url(), &self.clock).await;
    }
}
