//! While Redis is away or full the bus says so; when it is back, the bus works again.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bus::{Error, Mode, Settlement, TailFrom, Tailed, Verb};
use serde_json::json;
use testkit::{Redis, RedisOptions};

use super::{RedisLab, command, eventually};
use crate::conformance::{Lab as _, ack, claim_one, declare, event, publish, queue, seconds};

#[tokio::test]
async fn a_bus_that_is_away_comes_back_without_a_restart() {
    let mut lab = RedisLab::open().await;
    let bus = lab.bus();
    publish(&bus, &[("a", "k")]).await;
    lab.server.kill();
    let away = bus.publish(vec![event("b", "k")]).await;
    assert!(matches!(away, Err(Error::Unavailable(_))), "{away:?}");
    assert!(matches!(bus.read(&queue(), 0, 1, 10).await, Err(Error::Unavailable(_))));
    lab.server.restart().await;
    eventually("it takes events again", async || bus.publish(vec![event("b", "k")]).await.is_ok()).await;
    let page = bus.read(&queue(), 0, 1, 10).await.unwrap();
    assert_eq!(page.events.len(), 2, "each once, whatever became of the first attempt");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_on_and_used_again() {
    let lab = RedisLab::open().await;
    let bus = lab.bus();
    publish(&bus, &[("a", "k")]).await;
    lab.server.pause();
    let began = Instant::now();
    let hangs = bus.publish(vec![event("b", "k")]).await;
    assert!(matches!(hangs, Err(Error::Unavailable(_))), "{hangs:?}");
    assert!(began.elapsed() < Duration::from_secs(30));
    lab.server.resume();
    eventually("it takes events again", async || bus.publish(vec![event("b", "k")]).await.is_ok()).await;
    assert_eq!(bus.read(&queue(), 0, 1, 10).await.unwrap().events.len(), 2, "the lost answer's event is there once");
}

#[tokio::test]
async fn scripts_may_be_flushed_in_traffic() {
    let lab = Arc::new(RedisLab::open().await);
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let bus = lab.bus();
            tokio::spawn(async move {
                for n in 0..50 {
                    publish(&bus, &[(&format!("{publisher}-{n}"), "k")]).await;
                }
            })
        })
        .collect();
    while !publishers.iter().all(|publisher| publisher.is_finished()) {
        command(&lab.server, &["SCRIPT", "FLUSH"]).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert_eq!(lab.bus().queues().await.unwrap()[0].partitions[0].next, 201);
}

#[tokio::test]
async fn a_full_server_refuses_events_and_is_emptied_by_trimming() {
    let settings = vec![("maxmemory", "6mb".to_owned())];
    let server = Redis::start(RedisOptions { settings, ..RedisOptions::default() }).await;
    let lab = RedisLab::on(server).await;
    let bus = lab.bus();
    let big = |n: usize| event(&n.to_string(), "k").data(json!("x".repeat(200 << 10)));
    let mut recorded = 0;
    let full = loop {
        match bus.publish(vec![big(recorded)]).await {
            Ok(outcomes) => outcomes[0].as_ref().map(|_| recorded += 1).unwrap(),
            Err(error) => break error,
        }
        assert!(recorded < 100, "a full server takes no end");
    };
    assert!(matches!(&full, Error::Unavailable(reason) if reason.contains("out of memory")), "{full:?}");
    let page = bus.read(&queue(), 0, 1, 100).await.unwrap();
    assert_eq!(page.events.len(), recorded, "what was confirmed can be read");
    let group = declare(&bus, "g", Mode::Parallel).await;
    let leased = claim_one(&bus, &group.name).await;
    ack(&bus, &group.name, &[leased]).await;
    // Older than the queue keeps: trimming runs on a full server.
    lab.advance(Duration::from_secs(8 * 86_400)).await;
    publish(&bus, &[("fits", "k")]).await;
}

#[tokio::test]
async fn a_settlement_whose_answer_was_lost_wakes_the_group() {
    let server = testkit::redis().await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    let leased = claim_one(&bus, "g").await;
    let mut woken = bus.claimable("g");
    tokio::time::timeout(seconds(20), woken.changed()).await.expect("whoever begins to wait looks").unwrap();
    server.pause();
    let release = || bus.settle("g", vec![Settlement { token: leased.token, verb: Verb::Release }]);
    let released = release().await;
    assert!(matches!(released, Err(Error::Unavailable(_))), "{released:?}");
    woken.borrow_and_update();
    server.resume();
    // Either this try does it or the first one did.
    eventually("it is answered", async || release().await.is_ok()).await;
    tokio::time::timeout(seconds(20), woken.changed()).await.expect("it is woken").unwrap();
    claim_one(&bus, "g").await;
}

#[tokio::test]
async fn a_tail_outlives_a_kill() {
    let mut lab = RedisLab::open().await;
    let bus = lab.bus();
    publish(&bus, &[("a", "k")]).await;
    let mut tail = bus.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    let following = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 2 {
            match tail.next().await {
                Ok(Tailed::Event { envelope, .. }) => seen.push(envelope.id.clone()),
                Ok(Tailed::CaughtUp) => {}
                Ok(Tailed::Gap(gap)) => panic!("{gap:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        seen
    });
    lab.server.kill();
    lab.server.restart().await;
    eventually("it takes events again", async || bus.publish(vec![event("b", "k")]).await.is_ok()).await;
    let seen = tokio::time::timeout(Duration::from_secs(20), following).await.expect("in time").unwrap();
    assert_eq!(seen, ["a", "b"]);
}

#[tokio::test]
async fn what_was_confirmed_survives_kills_in_traffic() {
    let mut lab = RedisLab::open().await;
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            let bus = lab.bus();
            tokio::spawn(async move {
                let mut confirmed = BTreeMap::new();
                for n in 0..100 {
                    let id = format!("{publisher}-{n}");
                    // An answer that was lost is asked for again: the window knows.
                    let recorded = loop {
                        match bus.publish(vec![event(&id, &publisher.to_string())]).await {
                            Ok(mut outcomes) => break outcomes.remove(0).unwrap(),
                            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                        }
                    };
                    confirmed.insert(recorded.position.unwrap(), id);
                }
                confirmed
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        lab.server.restart().await;
    }
    let mut confirmed = BTreeMap::new();
    for publisher in publishers {
        confirmed.extend(publisher.await.unwrap());
    }
    // That a connection has ended since it was last used shows only when it is.
    eventually("it answers", async || lab.bus().read(&queue(), 0, 1, 1).await.is_ok()).await;
    let page = lab.bus().read(&queue(), 0, 1, 1000).await.unwrap();
    let recorded: BTreeMap<u64, String> =
        page.events.iter().map(|logged| (logged.position, logged.envelope.id.clone())).collect();
    assert_eq!(recorded, confirmed, "each event once, where its publisher was told");
    assert!(recorded.keys().copied().eq(1..=400), "dense");
    assert!(page.lineages.0.len() > 1, "the kills fell into the traffic");
}
