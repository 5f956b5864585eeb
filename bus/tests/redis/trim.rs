//! F22: trimming races claims, on several nodes. Whatever happens, each event ends settled or lost, and lost is told.

use std::{collections::BTreeSet, sync::Arc};

use bus::{
    Bus, Claim, Mode, Overflow, Queue, Settlement, Verb,
    redis::{Options, Redis},
};
use events::Name;
use parking_lot::Mutex;
use testkit::{Aof, Redis as Server, RedisOptions};

use super::{between::Proxy, command, eventually, written};
use crate::conformance::{ack, claim, declare, event, ids, publish_many, queue, seconds, status};

const NODES: usize = 3;
const EVENTS: u64 = 1500;

async fn open(url: &str) -> Bus {
    bus::redis::open(url).await.unwrap()
}

async fn limited(bus: &Bus, overflow: Overflow) {
    bus.declare_queue(Queue { max_len: Some(20), overflow, ..Queue::new(queue()) }).await.unwrap();
}

#[tokio::test]
async fn what_is_dropped_while_a_claim_reads_is_not_passed_over() {
    let server = testkit::redis().await;
    let proxy = Proxy::to(&server).await;
    let (near, far) = (open(&server.url()).await, open(&proxy.url()).await);
    limited(&near, Overflow::DropOldest).await;
    declare(&near, "g", Mode::Keyed).await;
    publish_many(&near, 0..10).await;
    ack(&far, "g", &claim(&far, "g", 4).await).await;
    // It knows where it stands, and is about to read from there.
    proxy.hold("XRANGE");
    let claiming = tokio::spawn({
        let far = far.clone();
        async move { claim(&far, "g", 64).await }
    });
    // What the node has read ahead may do: then nothing is held back.
    let _ = tokio::time::timeout(seconds(2), proxy.held.notified()).await;
    for id in 10..40 {
        publish_many(&near, id..id + 1).await;
    }
    proxy.go_on.notify_one();
    let claimed = claiming.await.unwrap();
    // Claimed before it was dropped, or lost; nothing else.
    let of_claim: BTreeSet<u64> = claimed.iter().map(|leased| leased.position).collect();
    let mut seen = of_claim.clone();
    while let Some(leased) = claim(&near, "g", 64).await.pop() {
        seen.insert(leased.position);
        ack(&near, "g", &[leased]).await;
    }
    let group = status(&near, "g").await;
    let in_range = |at: u64| group.lost_ranges.iter().any(|range| (range.from..range.to).contains(&at));
    let silent: Vec<u64> = (5..21).filter(|at| !of_claim.contains(at) && !in_range(*at)).collect();
    assert_eq!(silent, [0; 0], "neither delivered nor told as lost: {group:?}");
    assert!((5..21).all(in_range), "what was claimed of them is lost too, its lease with it: {group:?}");
    assert_eq!(group.lost, 16);
}

/// Publishes on one node while members on all of them claim and settle, and everybody trims; then the sum is right.
async fn race(overflow: Overflow) -> (u64, u64) {
    let server = testkit::redis().await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(open(&server.url()).await);
    }
    limited(&nodes[0], overflow).await;
    declare(&nodes[0], "g", Mode::Parallel).await;
    eventually("every node knows the queue's limit", async || {
        for node in &nodes {
            node.queues().await.unwrap();
        }
        true
    })
    .await;
    let acked: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
    let members: Vec<_> = nodes
        .iter()
        .cloned()
        .enumerate()
        .map(|(number, bus)| {
            let acked = acked.clone();
            tokio::spawn(async move {
                loop {
                    let claim = Claim { group: "g".into(), member: number.to_string(), max: 7, bytes: 1 << 20 };
                    let leased = bus.claim(claim).await.unwrap().leased;
                    tokio::task::yield_now().await;
                    let settlements =
                        leased.iter().map(|leased| Settlement { token: leased.token, verb: Verb::Ack }).collect();
                    let outcomes = bus.settle("g", settlements).await.unwrap();
                    for (leased, _) in leased.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()) {
                        assert!(acked.lock().insert(leased.position), "settled twice");
                    }
                }
            })
        })
        .collect();
    let mut recorded = 0;
    while recorded < EVENTS {
        let events = (recorded..recorded + 3).map(|id| event(&id.to_string(), "k")).collect();
        let outcomes = nodes[0].publish(events).await.unwrap();
        recorded += outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
    }
    eventually("all is settled or lost", async || status(&nodes[1], "g").await.lag == 0).await;
    members.iter().for_each(tokio::task::JoinHandle::abort);
    let group = status(&nodes[2], "g").await;
    let settled = acked.lock().len() as u64;
    assert_eq!(settled + group.lost, EVENTS, "each ends once: {settled} settled, {group:?}");
    let ranges: BTreeSet<u64> = group.lost_ranges.iter().flat_map(|range| range.from..range.to).collect();
    assert!(ranges.is_disjoint(&acked.lock()), "what was settled isn't told as lost");
    (settled, group.lost)
}

#[tokio::test]
async fn dropping_loses_nothing_silently() {
    let (settled, lost) = race(Overflow::DropOldest).await;
    println!("{settled} settled, {lost} lost");
}

#[tokio::test]
async fn refusing_loses_nothing() {
    assert_eq!(race(Overflow::Reject).await, (EVENTS, 0));
}

#[tokio::test]
async fn a_deleted_stream_is_lost_and_leaves_room() {
    let server = testkit::redis().await;
    let bus = open(&server.url()).await;
    limited(&bus, Overflow::Reject).await;
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..20).await;
    assert!(bus.publish(vec![event("full", "k")]).await.unwrap()[0].is_err());
    command(&server, &["DEL", "tp:{DB:0}:s"]).await;
    publish_many(&bus, 20..22).await;
    let partition = bus.queues().await.unwrap()[0].partitions[0].clone();
    assert_eq!((partition.floor, partition.next), (21, 23));
    let page = bus.read(&queue(), 0, 1, 10).await.unwrap();
    let bytes: usize =
        page.events.iter().map(|logged| serde_json::to_vec(&stored(&logged.envelope)).unwrap().len()).sum();
    assert_eq!(partition.bytes, bytes as u64, "exact");
    let left = claim(&bus, "g", 64).await;
    assert_eq!(ids(&left), ["20", "21"]);
    assert_eq!(status(&bus, "g").await.lost, 20);
}

#[tokio::test]
async fn what_is_kept_is_counted_exactly_where_the_log_was_torn() {
    let mut server = Server::start(RedisOptions { aof: Aof::EverySecond, ..RedisOptions::default() }).await;
    let bus = open(&server.url()).await;
    limited(&bus, Overflow::DropOldest).await;
    for id in 0..15 {
        publish_many(&bus, id..id + 1).await;
    }
    let (file, kept) = written(&server).await;
    for id in 15..40 {
        publish_many(&bus, id..id + 1).await;
    }
    server.kill();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(kept + 7).unwrap();
    server.restart().await;
    let bus = open(&server.url()).await;
    for id in 40..44 {
        publish_many(&bus, id..id + 1).await;
    }
    assert_eq!(bytes_of(&bus).await, (1, 20));
    publish_many(&bus, 44..46).await;
    assert_eq!(bytes_of(&bus).await, (2, 22));
}

/// The first position and the next one, where the bytes are right.
async fn bytes_of(bus: &Bus) -> (u64, u64) {
    let partition = bus.queues().await.unwrap()[0].partitions[0].clone();
    let page = bus.read(&queue(), 0, 1, 100).await.unwrap();
    let bytes = page.events.iter().map(|logged| serde_json::to_vec(&stored(&logged.envelope)).unwrap().len() as u64);
    assert_eq!(partition.bytes, bytes.sum::<u64>());
    (partition.floor, partition.next)
}

/// As it was before the bus added anything.
fn stored(envelope: &events::Envelope) -> events::Envelope {
    events::Envelope { recordedtime: None, sequence: None, cursor: None, ..envelope.clone() }
}

#[tokio::test]
async fn a_reset_is_told_once_by_whoever_remembers() {
    let server = testkit::redis().await;
    let open = async || Redis::open(&server.url(), Options::default()).await.unwrap();
    let nodes = [open().await, open().await];
    let buses = nodes.clone().map(Bus::new);
    publish_many(&buses[0], 0..1).await;
    buses[1].queues().await.unwrap();
    command(&server, &["FLUSHALL"]).await;
    for (bus, node) in buses.iter().zip(&nodes) {
        assert_eq!(bus.lineage(&queue(), 0).await.unwrap().unwrap().parent, None);
        // Which tells, if nothing else has.
        node.housekeep().await.unwrap();
    }
    let page = buses[0].read(&Name::new("SYS").unwrap(), 0, 1, 100).await.unwrap();
    let resets = page.events.iter().filter(|logged| logged.envelope.event.as_str() == "LOG_RESET");
    let of_db: Vec<_> = resets.filter(|logged| logged.envelope.json().unwrap()["queue"] == "DB").collect();
    assert_eq!(of_db.len(), 1, "both remember it: {page:?}");
}
