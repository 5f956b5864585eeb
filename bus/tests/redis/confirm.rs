//! §9: a level is confirmed only where it is so. With real replicas, and a server that can tell what is on its disk.

use std::time::Duration;

use bus::{Bus, Confirm, Error, PublishOptions, Recorded};
use testkit::{Aof, Redis, RedisOptions};

use super::command;
use crate::conformance::{event, publish, queue, seconds};

fn replicated(replicas: u8, patience: Duration) -> PublishOptions {
    PublishOptions { confirm: Confirm::Replicated(replicas), patience, ..PublishOptions::default() }
}

async fn publish_with(bus: &Bus, id: &str, options: PublishOptions) -> Recorded {
    bus.publish_with(vec![event(id, "k")], options).await.unwrap().remove(0).unwrap()
}

/// A server, a replica that has all of it, and a bus on the server.
async fn replicating() -> (Redis, Redis, Bus) {
    let primary = testkit::redis().await;
    let replica = primary.replica(RedisOptions::default()).await;
    let bus = bus::redis::open(&primary.url()).await.unwrap();
    (primary, replica, bus)
}

#[tokio::test]
async fn what_replicas_have_is_confirmed() {
    let (_primary, replica, bus) = replicating().await;
    let recorded = publish_with(&bus, "a", replicated(1, seconds(30))).await;
    assert_eq!((recorded.position, recorded.confirmed), (Some(1), Confirm::Replicated(1)));
    let stream = replica.command(&["XLEN", "tp:{DB:0}:s"]);
    assert_eq!(stream.trim().trim_start_matches(':'), "1", "it has it: {stream}");
}

#[tokio::test]
async fn many_publishes_share_one_wait() {
    let (primary, _replica, bus) = replicating().await;
    publish(&bus, &[("first", "k")]).await;
    let publishing: Vec<_> = (0..400)
        .map(|id: u32| {
            let bus = bus.clone();
            tokio::spawn(async move { publish_with(&bus, &id.to_string(), replicated(1, seconds(30))).await })
        })
        .collect();
    for published in publishing {
        assert_eq!(published.await.unwrap().confirmed, Confirm::Replicated(1));
    }
    let stats = command(&primary, &["INFO", "commandstats"]).await;
    let calls =
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_wait:calls=")?.split(',').next()?.parse().ok());
    let calls: u32 = calls.unwrap();
    assert!(calls < 200, "{calls} for 400 publishes");
}

#[tokio::test]
async fn a_level_that_is_not_reached_in_time_is_not_claimed() {
    let (_primary, replica, bus) = replicating().await;
    replica.pause();
    let recorded = publish_with(&bus, "a", replicated(1, Duration::from_millis(100))).await;
    assert_eq!((recorded.position, recorded.confirmed), (Some(1), Confirm::Stored), "recorded all the same");
    replica.resume();
    let again = publish_with(&bus, "a", replicated(1, seconds(30))).await;
    assert_eq!((again.position, again.duplicate, again.confirmed), (Some(1), true, Confirm::Replicated(1)));
}

#[tokio::test]
async fn who_waits_for_a_replica_holds_up_nobody() {
    let (_primary, replica, bus) = replicating().await;
    replica.pause();
    let waiting = {
        let bus = bus.clone();
        tokio::spawn(async move { publish_with(&bus, "slow", replicated(1, seconds(60))).await })
    };
    super::eventually("it is recorded", async || !bus.read(&queue(), 0, 1, 1).await.unwrap().events.is_empty()).await;
    for id in ["a", "b", "c"] {
        publish(&bus, &[(id, "k")]).await;
    }
    assert!(!waiting.is_finished());
    replica.resume();
    assert_eq!(waiting.await.unwrap().confirmed, Confirm::Replicated(1));
}

#[tokio::test]
async fn what_a_server_before_the_failure_recorded_is_not_confirmed_by_the_one_after_it() {
    let (mut primary, replica, bus) = replicating().await;
    replica.pause();
    let waiting = {
        let bus = bus.clone();
        tokio::spawn(async move { publish_with(&bus, "a", replicated(1, seconds(30))).await })
    };
    super::eventually("it is recorded", async || {
        bus.read(&queue(), 0, 1, 1).await.is_ok_and(|page| !page.events.is_empty())
    })
    .await;
    primary.kill();
    primary.restart().await;
    replica.resume();
    assert_eq!(waiting.await.unwrap().confirmed, Confirm::Stored, "nobody can tell whether a replica had it");
}

#[tokio::test]
async fn more_replicas_than_there_are_can_not_be_asked_for() {
    let (_primary, _replica, bus) = replicating().await;
    let refused = bus.publish_with(vec![event("a", "k")], replicated(2, seconds(30))).await;
    match refused {
        Err(Error::NotGiven(sentence)) => assert!(sentence.contains("has 1 replicas"), "{sentence}"),
        other => panic!("{other:?}"),
    }
    assert!(bus.queues().await.unwrap().is_empty(), "nothing was recorded");
    let degraded = PublishOptions { allow_degraded: true, ..replicated(2, seconds(30)) };
    assert_eq!(publish_with(&bus, "a", degraded).await.confirmed, Confirm::Replicated(1), "as many as there are");
}

#[tokio::test]
async fn a_replica_that_comes_later_counts() {
    let primary = testkit::redis().await;
    let bus = bus::redis::open(&primary.url()).await.unwrap();
    let refused = bus.publish_with(vec![event("a", "k")], replicated(1, seconds(30))).await;
    assert!(matches!(refused, Err(Error::NotGiven(_))), "{refused:?}");
    let _replica = primary.replica(RedisOptions::default()).await;
    assert_eq!(publish_with(&bus, "a", replicated(1, seconds(30))).await.confirmed, Confirm::Replicated(1));
}

fn fsynced(patience: Duration) -> PublishOptions {
    PublishOptions { confirm: Confirm::Fsynced, patience, ..PublishOptions::default() }
}

/// A server that writes to disk once a second and can tell when it has (WAITAOF, 7.2), and a bus on it.
async fn telling() -> (Redis, Bus) {
    let options = RedisOptions { later: true, aof: Aof::EverySecond, ..RedisOptions::default() };
    let server = Redis::start(options).await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    (server, bus)
}

#[tokio::test]
async fn what_is_on_disk_is_confirmed_where_the_server_can_tell() {
    let (server, bus) = telling().await;
    let publishing: Vec<_> = (0..50)
        .map(|id: u32| {
            let bus = bus.clone();
            tokio::spawn(async move { publish_with(&bus, &format!("event-{id}"), fsynced(seconds(30))).await })
        })
        .collect();
    for published in publishing {
        assert_eq!(published.await.unwrap().confirmed, Confirm::Fsynced);
    }
    let file = server.folder().join("appendonlydir/appendonly.aof.1.incr.aof");
    let written = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    assert!((0..50).all(|id| written.contains(&format!("event-{id}"))), "it is there");
    let stats = command(&server, &["INFO", "commandstats"]).await;
    let calls = |line: &str| line.strip_prefix("cmdstat_waitaof:calls=")?.split(',').next()?.parse::<u32>().ok();
    let calls = stats.lines().find_map(calls).unwrap();
    assert!((1..50).contains(&calls), "{calls} for 50 publishes");
}

#[tokio::test]
async fn what_is_on_disk_when_the_system_likes_is_never_told() {
    let settings = vec![("appendfsync", "no".to_owned())];
    let options = RedisOptions { later: true, aof: Aof::EverySecond, settings, ..RedisOptions::default() };
    let server = Redis::start(options).await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    let refused = bus.publish_with(vec![event("a", "k")], fsynced(seconds(1))).await;
    assert!(matches!(&refused, Err(Error::NotGiven(sentence)) if sentence.contains("everysec")), "{refused:?}");
}

#[tokio::test]
async fn a_disk_that_nothing_is_written_to_any_more_confirms_nothing() {
    let (server, bus) = telling().await;
    assert_eq!(publish_with(&bus, "a", fsynced(seconds(30))).await.confirmed, Confirm::Fsynced);
    server.command(&["CONFIG", "SET", "appendonly", "no"]);
    match bus.publish_with(vec![event("b", "k")], fsynced(Duration::from_millis(200))).await {
        // It was not known yet: what WAITAOF says counts.
        Ok(outcomes) => assert_eq!(outcomes[0].as_ref().unwrap().confirmed, Confirm::Stored),
        Err(Error::NotGiven(sentence)) => assert!(sentence.contains("appendonly"), "{sentence}"),
        Err(error) => panic!("{error}"),
    }
    super::eventually("it is refused", async || {
        matches!(bus.publish_with(vec![event("c", "k")], fsynced(seconds(1))).await, Err(Error::NotGiven(_)))
    })
    .await;
}
