//! The primary that Sentinels name.

use redial::{Address, Patience, Redis};
use testkit::{RedisOptions, RedisSentinels};

use super::{eventually, get, reach, set};

#[tokio::test]
async fn a_failover_is_followed() {
    let mut primary = testkit::redis().await;
    let replica = primary.replica(RedisOptions::default()).await;
    let sentinels = RedisSentinels::watching(&primary, 1).await;
    let redis = reach(&sentinels.url()).await;
    set(&redis, "a", "1").await.unwrap();
    assert_eq!(primary.command(&["WAIT", "1", "10000"]), "1");
    primary.kill();
    eventually("the replica is reached", async || set(&redis, "b", "2").await.is_ok()).await;
    assert_eq!(replica.command(&["GET", "b"]), "2");
    assert_eq!(get(&redis, "a").await.unwrap().as_deref(), Some("1"));
    // The former primary is back, and is a replica as soon as the Sentinels see it.
    primary.restart().await;
    assert_eq!(get(&redis, "b").await.unwrap().as_deref(), Some("2"));
    let other = reach(&sentinels.url()).await;
    assert_eq!(get(&other, "b").await.unwrap().as_deref(), Some("2"), "nobody is led to the former primary");
}

#[tokio::test]
async fn a_primary_that_was_replaced_is_left_though_it_answers() {
    let primary = testkit::redis().await;
    let replica = primary.replica(RedisOptions::default()).await;
    let mut sentinels = RedisSentinels::watching(&primary, 1).await;
    let redis = reach(&sentinels.url()).await;
    set(&redis, "a", "1").await.unwrap();
    // One of them is away: the others are enough.
    sentinels.kill(2);
    // The former primary hears nothing of it, and so isn't told to follow the new one.
    primary.pause();
    assert_eq!(replica_of(&sentinels, primary.port()).await, replica.port());
    eventually("the new primary is written to", async || {
        set(&redis, "b", "2").await.is_ok() && replica.command(&["GET", "b"]) == "2"
    })
    .await;
    primary.resume();
}

async fn replica_of(sentinels: &RedisSentinels, former: u16) -> u16 {
    testkit::eventually("the first Sentinel names another", std::time::Duration::from_secs(30), || {
        let port = sentinels.named().filter(|port| *port != former);
        async move { port }
    })
    .await
}

#[tokio::test]
async fn a_name_that_no_sentinel_knows_is_told() {
    let primary = testkit::redis().await;
    let sentinels = RedisSentinels::watching(&primary, 0).await;
    let url = sentinels.url().replace("/events", "/other");
    let patience = Patience { attempts: 1, ..Patience::default() };
    let error = Redis::connect(Address::parse(&url).unwrap(), patience).await.unwrap_err();
    assert!(error.to_string().contains("No such master"), "{error}");
}
