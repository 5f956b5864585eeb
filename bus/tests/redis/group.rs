//! Groups whose members are on several nodes, and what becomes of them when a node or the server dies.

mod contention;
mod kill;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{Bus, Consumer, Delivery, Failure, Group, Handler, LeaseLost, Mode, Start, Verb};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{command, eventually};
use crate::conformance::{
    ack, claim, claim_all, claim_one, declare, nack_after, publish, queue, seconds, settle, status,
};

async fn node(server: &testkit::Redis) -> Bus {
    bus::redis::open(&server.url()).await.unwrap()
}

#[tokio::test]
async fn a_node_that_dies_leaves_its_leases_to_another_one() {
    let server = testkit::redis().await;
    let (dying, other) = (node(&server).await, node(&server).await);
    let group = Group { lease: seconds(1), ..Group::new("g", "DB/*".parse().unwrap(), Mode::Keyed) };
    dying.declare_group(group).await.unwrap();
    publish(&dying, &[("a", "k"), ("b", "k"), ("c", "l")]).await;
    assert_eq!(claim(&dying, "g", 10).await.len(), 2);
    drop(dying);
    let mut woken = other.claimable("g");
    let mut taken = Vec::new();
    while taken.len() < 3 {
        let leased = claim(&other, "g", 10).await;
        if leased.is_empty() {
            // Nobody tells that a node is gone: time does.
            tokio::time::timeout(seconds(20), woken.changed()).await.expect("it is woken").unwrap();
        }
        ack(&other, "g", &leased).await;
        taken.extend(leased.into_iter().map(|leased| (leased.envelope.id.clone(), leased.attempt)));
    }
    let expected = [("a", 1), ("b", 1), ("c", 1)].map(|(id, attempt)| (id.to_owned(), attempt));
    taken.sort();
    assert_eq!(taken, expected, "it held two: neither pays");
}

#[tokio::test]
async fn what_one_node_declares_anew_is_what_another_one_claims_by_at_once() {
    let server = testkit::redis().await;
    let (one, other) = (node(&server).await, node(&server).await);
    let declared = |revision| {
        let filter = if revision % 2 == 0 { "DB/*" } else { "DB/NEVER" };
        Group { revision, ..Group::new("g", filter.parse().unwrap(), Mode::Parallel) }
    };
    for revision in 1..20 {
        one.declare_group(declared(revision)).await.unwrap();
        // From a node that has not heard of it yet.
        other.declare_group(declared(revision.saturating_sub(3))).await.unwrap();
        let id = revision.to_string();
        publish(&other, &[(&id, "k")]).await;
        let leased = claim(&other, "g", 10).await;
        let expected = usize::from(revision % 2 == 0);
        assert_eq!(leased.len(), expected, "by revision {revision}");
        ack(&other, "g", &leased).await;
    }
}

#[tokio::test]
async fn a_retry_that_another_node_put_off_wakes_this_one() {
    let server = testkit::redis().await;
    let (one, other) = (node(&server).await, node(&server).await);
    declare(&one, "g", Mode::Parallel).await;
    publish(&one, &[("a", "k")]).await;
    let leased = claim_one(&one, "g").await;
    let mut woken = other.claimable("g");
    settle(&one, "g", leased.token, nack_after(Duration::from_millis(300))).await.unwrap();
    drop(one);
    let again = loop {
        if let Some(leased) = claim(&other, "g", 1).await.pop() {
            break leased;
        }
        tokio::time::timeout(seconds(20), woken.changed()).await.expect("it is woken").unwrap();
    };
    assert_eq!(again.attempt, 2);
}

#[tokio::test]
async fn an_exclusive_group_passes_to_another_node_when_its_holder_is_done() {
    let server = testkit::redis().await;
    let (one, other) = (node(&server).await, node(&server).await);
    declare(&one, "g", Mode::Exclusive).await;
    publish(&one, &[("a", "k"), ("b", "l"), ("c", "m")]).await;
    let leased = claim(&one, "g", 2).await;
    let mut woken = other.claimable("g");
    assert!(ack_all(&other).await.is_empty(), "one member a partition, on whatever node");
    woken.borrow_and_update();
    ack(&one, "g", &leased).await;
    tokio::time::timeout(seconds(20), woken.changed()).await.expect("it is woken").unwrap();
    eventually("it gets the next", || async { ack_all(&other).await == ["c"] }).await;
}

/// Claims and acks what there is; the ids.
async fn ack_all(bus: &Bus) -> Vec<String> {
    let leased = claim_all(bus, "g", "another", 10).await.leased;
    ack(bus, "g", &leased).await;
    leased.into_iter().map(|leased| leased.envelope.id.clone()).collect()
}

#[tokio::test]
async fn a_stale_node_can_not_settle_what_was_delivered_again() {
    let server = testkit::redis().await;
    let (stale, other) = (node(&server).await, node(&server).await);
    declare(&stale, "g", Mode::Parallel).await;
    publish(&stale, &[("a", "k"), ("b", "l")]).await;
    let leased = claim(&stale, "g", 2).await;
    // What the stale node knows of the group is what it did itself.
    other.seek("g", Start::Earliest, false).await.unwrap();
    assert_eq!(settle(&stale, "g", leased[0].token, Verb::Ack).await, Err(LeaseLost), "moved");
    let leased = claim(&stale, "g", 2).await;
    settle(&other, "g", leased[0].token, Verb::Release).await.unwrap();
    let again = claim(&other, "g", 2).await;
    assert_eq!(again.len(), 1, "any node may settle with a valid token");
    for verb in [Verb::Extend, Verb::Ack, Verb::Release] {
        assert_eq!(settle(&stale, "g", leased[0].token, verb).await, Err(LeaseLost), "delivered again");
    }
    settle(&stale, "g", again[0].token, Verb::Ack).await.unwrap();
    assert_eq!(settle(&other, "g", again[0].token, Verb::Ack).await, Err(LeaseLost), "acked elsewhere");
}

#[tokio::test]
async fn two_nodes_redrive_a_letter_once() {
    let server = testkit::redis().await;
    let (one, other) = (node(&server).await, node(&server).await);
    declare(&one, "g", Mode::Parallel).await;
    let ids: Vec<String> = (0..50).map(|id| id.to_string()).collect();
    publish(&one, &ids.iter().map(|id| (id.as_str(), id.as_str())).collect::<Vec<_>>()).await;
    for leased in claim(&one, "g", 50).await {
        settle(&one, "g", leased.token, Verb::Dead { reason: "no".into() }).await.unwrap();
    }
    assert_eq!(status(&other, "g").await.dead, 50);
    let (here, there) = tokio::join!(one.redrive("g", bus::Which::All), other.redrive("g", bus::Which::All));
    assert_eq!(here.unwrap() + there.unwrap(), 50);
    let standing = status(&other, "g").await;
    assert_eq!((standing.dead, standing.lag), (0, 50));
}

/// Counts what it handles, by event.
#[derive(Default)]
struct Count {
    handled: Mutex<BTreeMap<String, u32>>,
    all: AtomicUsize,
}

#[async_trait]
impl Handler for Count {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        *self.handled.lock().entry(delivery.envelope.id.clone()).or_default() += 1;
        self.all.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Running {
    handler: Arc<Count>,
    drain: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(bus: &Bus, group: Group) -> Self {
        let (handler, drain) = (Arc::new(Count::default()), CancellationToken::new());
        let consumer = Consumer::new(bus.clone(), group, handler.clone());
        let task = tokio::spawn(consumer.run(drain.clone(), CancellationToken::new()));
        Self { handler, drain, task }
    }

    async fn has_handled(&self, events: usize) {
        let handled = || async { self.handler.handled.lock().len() >= events };
        eventually("all are handled", handled).await;
    }

    async fn stop(self) {
        self.drain.cancel();
        tokio::time::timeout(seconds(30), self.task).await.expect("it stops").unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_group_goes_on_after_a_flush() {
    let server = testkit::redis().await;
    let bus = node(&server).await;
    let group = Group { start: Start::Latest, ..Group::new("g", "DB/*".parse().unwrap(), Mode::Keyed) };
    let running = Running::start(&bus, group);
    eventually("it is declared", || async { !bus.groups().await.unwrap().is_empty() }).await;
    publish(&bus, &[("a", "k"), ("b", "k")]).await;
    running.has_handled(2).await;
    command(&server, &["FLUSHALL"]).await;
    // At once: the group begins with the oldest event there is, whatever it was declared with.
    publish(&bus, &[("c", "k"), ("d", "l")]).await;
    running.has_handled(4).await;
    eventually("it is settled", || async { status(&bus, "g").await.lag == 0 }).await;
    running.stop().await;
    assert_eq!(command(&server, &["HEXISTS", "tp:groups", "g"]).await, "1", "it is registered again");
}

#[tokio::test]
async fn a_group_without_its_place_begins_with_the_oldest_event() {
    let server = testkit::redis().await;
    let bus = node(&server).await;
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k"), ("b", "k")]).await;
    let leased = claim(&bus, "g", 1).await;
    command(&server, &["DEL", "tp:{DB:0}:g:g"]).await;
    assert_eq!(settle(&bus, "g", leased[0].token, Verb::Ack).await, Err(LeaseLost));
    assert_eq!(claim(&bus, "g", 10).await.len(), 2);
}

#[tokio::test]
async fn a_redriven_letter_outlives_its_groups_place() {
    let server = testkit::redis().await;
    let bus = node(&server).await;
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    settle(&bus, "g", claim_one(&bus, "g").await.token, Verb::Dead { reason: "no".into() }).await.unwrap();
    assert_eq!(bus.redrive("g", bus::Which::All).await.unwrap(), 1);
    command(&server, &["DEL", "tp:{DB:0}:g:g"]).await;
    assert_eq!(status(&bus, "g").await.dead, 1, "it is a dead letter again");
}

#[tokio::test]
async fn an_event_that_can_not_be_read_is_passed_over() {
    let server = testkit::redis().await;
    let bus = node(&server).await;
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    let lineage = bus.lineage(&queue(), 0).await.unwrap().unwrap().id.to_string();
    command(&server, &["XADD", "tp:{DB:0}:s", "2-1", "l", &lineage, "e", "no envelope"]).await;
    command(&server, &["HSET", "tp:{DB:0}:m", "seq", "2"]).await;
    assert_eq!(ack_all(&bus).await, ["a"]);
    let nothing = claim_all(&bus, "g", "m", 10).await;
    assert!(nothing.leased.is_empty() && !nothing.more, "there is nothing to come back for");
    assert_eq!(status(&bus, "g").await.lag, 0);
    publish(&bus, &[("c", "k")]).await;
    assert_eq!(ack_all(&bus).await, ["c"]);
}

#[tokio::test]
async fn a_log_that_began_anew_takes_its_groups_along() {
    let server = testkit::redis().await;
    let bus = node(&server).await;
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a", "k"), ("b", "k"), ("c", "l")]).await;
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(leased.len(), 2);
    // The partition's meta alone: what the group knew of the log is about another one now.
    command(&server, &["DEL", "tp:{DB:0}:m"]).await;
    assert_eq!(publish(&bus, &[("d", "k")]).await[0].position, Some(1));
    assert_eq!(settle(&bus, "g", leased[0].token, Verb::Ack).await, Err(LeaseLost));
    let again = claim_one(&bus, "g").await;
    assert_eq!((again.envelope.id.as_str(), again.attempt), ("d", 1));
    ack(&bus, "g", &[again]).await;
    assert_eq!(status(&bus, "g").await.lag, 0);
}
