//! On a Cluster: a part of the suite that has several slots, readers of one and of many, and every kind of script; what
//! becomes of a partition whose slot moves in traffic, or whose primary dies. The rest of the suite runs on one server:
//! what a partition's scripts do is the same there.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{Bus, Clock, Confirm, Error, Mode, PublishOptions, Queue, redis::Redis};
use parking_lot::Mutex;
use testkit::{Certificates, RedisCluster, RedisOptions, Tls};
use time::OffsetDateTime;

use super::{Manual, eventually, open};
use crate::conformance::{Lab, claim, declare, event, publish, queue, seconds, settle};

mod suite {
    crate::conformance::suite! { @ crate::redis::cluster::ClusterLab::open;
        publish: events_of_one_key_share_a_partition, partitions_are_fixed_once_there_are_events, every_group_gets_every_event;
        dedupe: racing_publishers_record_an_id_once;
        producer: a_repeated_number_is_harmless;
        lease: a_member_that_dies_with_one_of_each_partition_charges_none;
        mode: a_key_keeps_its_order_across_retries;
        dead_letter: redrive_reaches_the_failing_group_only;
        seek: a_time_and_a_position;
        standing: an_event_stands_with_each_group_of_its_queue;
        tail: several_partitions_are_all_followed;
        retention: old_events_are_trimmed;
        sys: dead_letters_are_told_every_ten_minutes;
        consumer: a_member_is_on_the_roster_while_it_runs;
    }
}

const PARTITIONS: u32 = 4;

struct ClusterLab {
    cluster: RedisCluster,
    clock: Manual,
    backend: Redis,
}

impl ClusterLab {
    async fn open() -> Self {
        let cluster = RedisCluster::start(0, RedisOptions::default()).await;
        let clock = Manual(Arc::new(Mutex::new(OffsetDateTime::now_utc())));
        let backend = open(&cluster.url(), &clock).await;
        Self { cluster, clock, backend }
    }
}

#[async_trait]
impl Lab for ClusterLab {
    fn bus(&self) -> Bus {
        Bus::new(self.backend.clone())
    }

    fn clock(&self) -> Arc<dyn Clock> {
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
        for node in &mut self.cluster.nodes {
            node.restart().await;
        }
        self.cluster.agrees().await;
        self.backend = open(&self.cluster.url(), &self.clock).await;
    }
}

/// Publishes events of many keys, one after another, each until it is confirmed; where they are recorded.
async fn traffic(bus: Bus, name: &'static str, stop: Arc<AtomicBool>) -> BTreeSet<(u32, u64)> {
    let mut recorded = BTreeSet::new();
    let mut n = 0;
    while !stop.load(Relaxed) || n < 100 {
        let id = format!("{name}-{n}");
        match bus.publish(vec![event(&id, &format!("k{}", n % 16))]).await {
            Ok(mut outcomes) => {
                let confirmed = outcomes.remove(0).unwrap();
                assert!(
                    recorded.insert((confirmed.partition, confirmed.position.unwrap())),
                    "{id} is where another one is"
                );
                n += 1;
            }
            // An answer that was lost is asked for again: the window knows.
            Err(bus::Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    recorded
}

/// Everything there is, by partition and position, which must be dense.
async fn everything(bus: &Bus) -> BTreeSet<(u32, u64)> {
    let mut found = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for partition in 0..PARTITIONS {
        let mut next = 1;
        loop {
            let page = bus.read(&queue(), partition, next, 1000).await.unwrap();
            for logged in &page.events {
                assert_eq!(logged.position, next, "dense");
                assert!(ids.insert(logged.envelope.id.clone()), "{} is there twice", logged.envelope.id);
                found.insert((partition, next));
                next += 1;
            }
            if page.events.is_empty() {
                break;
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_move_while_events_are_published_and_settled() {
    let cluster = Arc::new(RedisCluster::start(0, RedisOptions::default()).await);
    let (near, far) =
        (bus::redis::open(&cluster.url()).await.unwrap(), bus::redis::open(&cluster.url()).await.unwrap());
    near.declare_queue(Queue { partitions: PARTITIONS, ..Queue::new(queue()) }).await.unwrap();
    declare(&near, "g", Mode::Keyed).await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishing: Vec<_> = [(&near, "near"), (&far, "far")]
        .into_iter()
        .map(|(bus, name)| tokio::spawn(traffic(bus.clone(), name, stop.clone())))
        .collect();
    let settling = tokio::spawn({
        let (bus, stop) = (far.clone(), stop.clone());
        async move {
            let mut acked = BTreeSet::new();
            while !stop.load(Relaxed) {
                let claim = bus::Claim { group: "g".into(), member: "m".into(), max: 10, bytes: 1 << 20 };
                let Ok(claimed) = bus.claim(claim).await else { continue };
                for leased in claimed.leased {
                    let settlement = bus::Settlement { token: leased.token, verb: bus::Verb::Ack };
                    if matches!(bus.settle("g", vec![settlement]).await.as_deref(), Ok([Ok(())])) {
                        assert!(acked.insert(leased.envelope.id.clone()), "acknowledged twice");
                    }
                }
            }
            acked.len()
        }
    });
    for partition in [0, 1, 0] {
        let slot = cluster.slot(&format!("tp:{{DB:{partition}}}:m"));
        let to = (cluster.owner(slot) + 1) % 3;
        let moving = cluster.clone();
        tokio::task::spawn_blocking(move || moving.reshard(slot, to)).await.unwrap();
        // While it moves, it can't be read for a moment.
        let next = async || near.read(&queue(), partition, 1, 1).await.ok().map(|page| page.next);
        let moved = Mutex::new(None);
        eventually("it is published to where it is now", async || match (next().await, &mut *moved.lock()) {
            (Some(next), Some(moved)) => next > *moved,
            (next, moved) => {
                *moved = next;
                false
            }
        })
        .await;
    }
    stop.store(true, Relaxed);
    let mut confirmed = BTreeSet::new();
    for publishing in publishing {
        confirmed.extend(publishing.await.unwrap());
    }
    assert!(settling.await.unwrap() > 0, "somebody settled meanwhile");
    assert_eq!(everything(&near).await, confirmed, "each where its publisher was told, and nothing else");
    let moved = near.lineages(&queue(), 0).await.unwrap();
    assert!(moved.0.len() > 1, "a slot on another node begins a lineage");
    assert!(moved.0.windows(2).all(|pair| pair[1].parent == Some(pair[0].id)), "without a cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_keeps_no_other_partition_s_confirmation_back() {
    let cluster = Arc::new(RedisCluster::start(1, RedisOptions::default()).await);
    let bus = bus::redis::open(&cluster.url()).await.unwrap();
    let many = Queue { partitions: 32, ..Queue::new(queue()) };
    bus.declare_queue(many.clone()).await.unwrap();
    // Two partitions of one server, and a key of each.
    let owner = cluster.owner(slot_of(&cluster, 0));
    let mut of_it = (0..many.partitions).filter(|partition| cluster.owner(slot_of(&cluster, *partition)) == owner);
    let (moves, stays) = (of_it.next().unwrap(), of_it.next().unwrap());
    let key = |partition| {
        (0..).map(|n: u32| n.to_string()).find(|key| bus::Partition::of(key, 32).index == partition).unwrap()
    };
    let replicated =
        PublishOptions { confirm: Confirm::Replicated(1), patience: seconds(60), ..PublishOptions::default() };
    eventually("every primary has a replica", async || {
        let first = bus.publish_with(vec![event("first", &key(stays))], replicated.clone()).await;
        first.is_ok_and(|first| first[0].as_ref().is_ok_and(|first| first.confirmed == Confirm::Replicated(1)))
    })
    .await;
    cluster.nodes[3 + owner].pause();
    let waiting = [moves, stays].map(|partition| {
        let (bus, options, event) = (bus.clone(), replicated.clone(), event("a", &key(partition)));
        tokio::spawn(async move { bus.publish_with(vec![event], options).await.unwrap().remove(0).unwrap() })
    });
    for partition in [moves, stays] {
        eventually("it is recorded", async || {
            let page = bus.read(&queue(), partition, 1, 10).await;
            page.is_ok_and(|page| page.events.iter().any(|logged| logged.envelope.id == "a"))
        })
        .await;
    }
    let moving = cluster.clone();
    let to = (owner + 1) % 3;
    tokio::task::spawn_blocking(move || moving.reshard(slot_of(&moving, moves), to)).await.unwrap();
    let waits = || {
        let stats = cluster.nodes[owner].command(&["INFO", "commandstats"]);
        let calls = |line: &str| line.strip_prefix("cmdstat_wait:calls=")?.split(',').next()?.parse::<u32>().ok();
        stats.lines().find_map(calls).unwrap_or(0)
    };
    let before = waits();
    eventually("what was asked before the move is answered", async || waits() > before + 2).await;
    cluster.nodes[3 + owner].resume();
    let [moved, stayed] = waiting;
    assert_eq!(stayed.await.unwrap().confirmed, Confirm::Replicated(1));
    assert_eq!(moved.await.unwrap().confirmed, Confirm::Stored, "the server that recorded it hasn't got it any more");
}

fn slot_of(cluster: &RedisCluster, partition: u32) -> u16 {
    cluster.slot(&format!("tp:{{DB:{partition}}}:m"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_dies_takes_nothing_along_that_its_replica_has() {
    let mut cluster = RedisCluster::start(1, RedisOptions::default()).await;
    let bus = bus::redis::open(&cluster.url()).await.unwrap();
    bus.declare_queue(Queue { partitions: PARTITIONS, ..Queue::new(queue()) }).await.unwrap();
    declare(&bus, "g", Mode::Parallel).await;
    let replicated =
        PublishOptions { confirm: Confirm::Replicated(1), patience: seconds(30), ..PublishOptions::default() };
    let mut confirmed = BTreeSet::new();
    for n in 0..40 {
        // A cluster that has just begun may have no replica that keeps up yet; nothing is recorded then.
        let published = testkit::eventually("a replica keeps up", seconds(30), || async {
            let events = vec![event(&n.to_string(), &format!("k{n}"))];
            match bus.publish_with(events, replicated.clone()).await {
                Err(Error::NotGiven(_)) => None,
                published => Some(published),
            }
        });
        let recorded = published.await.unwrap().remove(0).unwrap();
        assert_eq!(recorded.confirmed, Confirm::Replicated(1));
        confirmed.insert((recorded.partition, recorded.position.unwrap()));
    }
    let owner = cluster.owner(cluster.slot("tp:{DB:0}:m"));
    cluster.nodes[owner].kill();
    let key = (0..).map(|n| format!("k{n}"));
    let mut of_it = None;
    for key in key {
        if bus.partition(&queue(), &key).await.unwrap().index == 0 {
            of_it = Some(key);
            break;
        }
    }
    let of_it = of_it.unwrap();
    eventually("its replica takes events", async || bus.publish(vec![event("after", &of_it)]).await.is_ok()).await;
    eventually("all can be read", async || bus.read(&queue(), 3, 1, 1).await.is_ok()).await;
    let found = everything(&bus).await;
    assert!(found.is_superset(&confirmed), "{:?}", confirmed.difference(&found));
    assert_eq!(found.len(), confirmed.len() + 1);
    // Claims and settles go on as well.
    let leased = claim(&bus, "g", 1).await;
    settle(&bus, "g", leased[0].token, bus::Verb::Ack).await.unwrap();
}

#[tokio::test]
async fn by_tls_and_as_a_user_events_of_all_partitions_come_and_go() {
    let certificates = Certificates::make();
    let options = RedisOptions {
        tls: Some(Tls { certificates: certificates.clone(), mutual: true }),
        users: vec!["default off".to_owned(), "shop on >secret ~tp:* &tp:* +@all -@dangerous +info".to_owned()],
        ..RedisOptions::default()
    };
    let cluster = RedisCluster::start(0, options).await;
    let (certificate, key) = certificates.client();
    let url = format!(
        "{}?ca={}&certificate={}&key={}",
        cluster.url().replace("rediss+cluster://", "rediss+cluster://shop:secret@"),
        certificates.authority().display(),
        certificate.display(),
        key.display()
    );
    let bus = bus::redis::open(&url).await.unwrap();
    bus.declare_queue(Queue { partitions: PARTITIONS, ..Queue::new(queue()) }).await.unwrap();
    declare(&bus, "g", Mode::Keyed).await;
    let events = (0..16).map(|n| event(&n.to_string(), &format!("k{n}"))).collect();
    let published = bus.publish(events).await.unwrap();
    let partitions: BTreeSet<u32> = published.iter().map(|recorded| recorded.as_ref().unwrap().partition).collect();
    assert_eq!(partitions, (0..PARTITIONS).collect());
    let mut acked = 0;
    while acked < 16 {
        for leased in claim(&bus, "g", 16).await {
            settle(&bus, "g", leased.token, bus::Verb::Ack).await.unwrap();
            acked += 1;
        }
    }
    let findings = bus::redis::examine(&url, "tp").await;
    assert!(findings.iter().all(|finding| finding.level < bus::redis::Level::Fault), "{findings:?}");
}

#[tokio::test]
async fn a_node_that_forgot_its_scripts_is_given_them() {
    let cluster = RedisCluster::start(0, RedisOptions::default()).await;
    let bus = bus::redis::open(&cluster.url()).await.unwrap();
    publish(&bus, &[("a", "k")]).await;
    for node in &cluster.nodes {
        node.command(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(publish(&bus, &[("b", "k")]).await[0].position, Some(2));
}
