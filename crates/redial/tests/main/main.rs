//! Reaching real servers, while they fail, are replaced and move what they have.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod sentinel;
mod server;

use std::time::Duration;

use redial::{Address, Patience, Redis};

async fn reach(url: &str) -> Redis {
    Redis::connect(Address::parse(url).unwrap(), Patience::default()).await.unwrap()
}

async fn set(redis: &Redis, key: &str, value: &str) -> redis::RedisResult<()> {
    redis::cmd("SET").arg(key).arg(value).query_async(&mut redis.clone()).await
}

async fn get(redis: &Redis, key: &str) -> redis::RedisResult<Option<String>> {
    redis::cmd("GET").arg(key).query_async(&mut redis.clone()).await
}

/// Waits until something holds; at most half a minute.
async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    testkit::eventually(what, Duration::from_secs(30), || {
        let holding = holds();
        async move { holding.await.then_some(()) }
    })
    .await;
}
