//! Nobody is taken for gone because Redis is.

use std::time::Duration;

use registry::{Instance, LIFETIME, Registry};
use testkit::{Aof, RedisOptions, eventually};

use crate::stage::{BOUND, Following, Process};

/// A Redis that forgets everything when it is restarted.
async fn forgetful() -> testkit::Redis {
    testkit::Redis::start(RedisOptions { aof: Aof::Off, ..RedisOptions::default() }).await
}

async fn holds(redis: &testkit::Redis, service: &str) -> usize {
    let Ok(client) = redis::Client::open(redis.url()) else { return 0 };
    let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return 0 };
    let held = redis::cmd("ZCARD").arg(format!("tp:registry:{{{service}}}:beats")).query_async(&mut connection).await;
    held.unwrap_or(0)
}

#[tokio::test]
async fn a_flushed_redis_is_told_again_and_nobody_is_missed() {
    let redis = forgetful().await;
    let registry = Registry::new(&redis.url()).unwrap();
    let mut following = Following::new(&registry, "product");
    let _one = Process::announcing(&registry, "product", Instance::new("a:1"));
    let two = Process::announcing(&registry, "product", Instance::new("b:1"));
    following.until_known(&["a:1", "b:1"]).await;
    following.count_anew();
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    eventually("both are announced again", BOUND, || async { (holds(&redis, "product").await == 2).then_some(()) })
        .await;
    // It must have been read since.
    let read_at = following.standing().read_at;
    following.until("it is read again", |standing| standing.read_at > read_at).await;
    assert_eq!(following.fewest(), 2);
    two.leave().await;
    following.until_known(&["a:1"]).await;
}

#[tokio::test]
async fn a_redis_that_is_killed_and_comes_back_empty_takes_nobody_away() {
    let mut redis = forgetful().await;
    let registry = Registry::new(&redis.url()).unwrap();
    let mut following = Following::new(&registry, "product");
    let _stays = Process::announcing(&registry, "product", Instance::new("a:1"));
    let killed = Process::announcing(&registry, "product", Instance::new("b:1"));
    following.until_known(&["a:1", "b:1"]).await;
    following.count_anew();
    redis.kill();
    following.until("it is missed", |standing| standing.error.is_some()).await;
    // One dies meanwhile, which nobody can know yet.
    killed.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    redis.restart().await;
    following.until("it answers again", |standing| standing.error.is_none()).await;
    assert_eq!(following.fewest(), 2);
    following.until_known(&["a:1"]).await;
    assert_eq!(following.fewest(), 1);
}

#[tokio::test]
async fn a_frozen_redis_takes_nobody_away() {
    let redis = forgetful().await;
    let registry = Registry::new(&redis.url()).unwrap();
    let mut following = Following::new(&registry, "product");
    let _one = Process::announcing(&registry, "product", Instance::new("a:1"));
    let _two = Process::announcing(&registry, "product", Instance::new("b:1"));
    following.until_known(&["a:1", "b:1"]).await;
    following.count_anew();
    redis.pause();
    following.until("it is missed", |standing| standing.error.is_some()).await;
    // Long enough for every heartbeat it has heard to be too old.
    tokio::time::sleep(LIFETIME).await;
    redis.resume();
    following.until("it answers again", |standing| standing.error.is_none()).await;
    let read_at = following.standing().read_at;
    following.until("it is read again", |standing| standing.read_at > read_at).await;
    assert_eq!(following.fewest(), 2);
}

#[tokio::test]
async fn who_starts_before_redis_is_announced_once_it_is_there() {
    let mut redis = forgetful().await;
    redis.kill();
    let registry = Registry::new(&redis.url()).unwrap();
    let mut following = Following::new(&registry, "product");
    let process = Process::announcing(&registry, "product", Instance::new("a:1"));
    following.until("it is missed", |standing| standing.error.is_some()).await;
    eventually("the instance misses it too", BOUND, || async { process.announcement().standing().error }).await;
    redis.restart().await;
    following.until_known(&["a:1"]).await;
    // Who leaves while Redis is away ends all the same.
    redis.kill();
    tokio::time::timeout(BOUND, process.leave()).await.unwrap();
}
