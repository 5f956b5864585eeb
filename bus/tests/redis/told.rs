//! What hints carry: whoever follows small events needn't ask the server for them, and is never wrong for it.

use std::time::Duration;

use bus::{Bus, Tail, TailFrom, Tailed};
use events::Envelope;
use serde_json::json;

use super::{RedisLab, command, open};
use crate::conformance::{Lab as _, event, publish, queue};

/// How often the stream was read.
async fn reads(server: &testkit::Redis) -> u64 {
    let stats = command(server, &["INFO", "commandstats"]).await;
    let calls = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    calls("xrange") + calls("xrevrange")
}

/// The ids of the next events.
async fn next(tail: &mut Tail, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let told = tokio::time::timeout(Duration::from_secs(30), tail.next()).await.expect("an event in time").unwrap();
        match told {
            Tailed::Event { envelope, .. } => ids.push(envelope.id.clone()),
            Tailed::CaughtUp => {}
            Tailed::Gap(gap) => panic!("nothing is missing: {gap:?}"),
        }
    }
    ids
}

async fn follow(bus: &Bus) -> Tail {
    bus.tail(format!("{}/*", queue()).parse().unwrap(), TailFrom::Earliest).await.unwrap()
}

#[tokio::test]
async fn small_events_are_told_along_and_not_asked_for() {
    let lab = RedisLab::open().await;
    let reader = Bus::new(open(&lab.server.url(), &lab.clock).await);
    publish(&lab.bus(), &[("0", "k")]).await;
    let mut tail = follow(&reader).await;
    assert_eq!(next(&mut tail, 1).await, ["0"]);
    // Until the reader listens for hints it asks; how often it does is up to chance.
    let mut before = None;
    for attempt in 0..1000 {
        let reads_before = reads(&lab.server).await;
        let id = format!("heard-{attempt}");
        publish(&lab.bus(), &[(&id, "k")]).await;
        assert_eq!(next(&mut tail, 1).await, [id]);
        if reads(&lab.server).await == reads_before {
            before = Some(reads_before);
            break;
        }
    }
    let before = before.expect("an event is told along");
    for id in ["1", "2", "3"] {
        publish(&lab.bus(), &[(id, "k")]).await;
        assert_eq!(next(&mut tail, 1).await, [id]);
    }
    assert!(reads(&lab.server).await <= before + 2, "at most a look of chance");
}

#[tokio::test]
async fn large_events_between_small_ones_are_read_in_order() {
    let lab = RedisLab::open().await;
    let reader = Bus::new(open(&lab.server.url(), &lab.clock).await);
    publish(&lab.bus(), &[("0", "k")]).await;
    let mut tail = follow(&reader).await;
    assert_eq!(next(&mut tail, 1).await, ["0"]);
    let large = |id: &str| -> Envelope { event(id, "k").data(json!({ "text": "x".repeat(6000) })) };
    let mut ids = Vec::new();
    for round in 0..20 {
        for (id, is_large) in [(format!("{round}a"), false), (format!("{round}b"), true), (format!("{round}c"), false)]
        {
            let envelope = if is_large { large(&id) } else { event(&id, "k") };
            lab.bus().publish(vec![envelope]).await.unwrap().remove(0).unwrap();
            ids.push(id);
        }
    }
    assert_eq!(next(&mut tail, ids.len()).await, ids);
}

#[tokio::test]
async fn what_was_told_before_a_flush_is_not_taken_for_the_log() {
    let lab = RedisLab::open().await;
    let reader = Bus::new(open(&lab.server.url(), &lab.clock).await);
    publish(&lab.bus(), &[("0", "k")]).await;
    let mut tail = follow(&reader).await;
    assert_eq!(next(&mut tail, 1).await, ["0"]);
    publish(&lab.bus(), &[("1", "k")]).await;
    assert_eq!(next(&mut tail, 1).await, ["1"]);
    command(&lab.server, &["FLUSHALL"]).await;
    publish(&lab.bus(), &[("after", "k")]).await;
    let mut seen = Vec::new();
    while !seen.iter().any(|seen| seen == "after") {
        match tokio::time::timeout(Duration::from_secs(30), tail.next()).await.expect("told in time").unwrap() {
            Tailed::Event { envelope, .. } => seen.push(envelope.id.clone()),
            Tailed::Gap(gap) => seen.push(format!("{:?}", gap.reason)),
            Tailed::CaughtUp => {}
        }
    }
    assert_eq!(seen, ["Reset", "after"]);
}
