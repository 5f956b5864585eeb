//! A Cluster: whatever the slot, wherever it goes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use testkit::{RedisCluster, RedisOptions};

use super::{eventually, get, reach, set};

#[tokio::test]
async fn every_key_is_reached_and_one_pipeline_may_have_all_of_them() {
    let cluster = RedisCluster::start(0, RedisOptions::default()).await;
    let redis = reach(&cluster.url()).await;
    for n in 0..50 {
        set(&redis, &format!("k{n}"), &n.to_string()).await.unwrap();
    }
    let mut all = redis::pipe();
    (0..50).for_each(|n| _ = all.get(format!("k{n}")));
    let values: Vec<u32> = all.query_async(&mut redis.clone()).await.unwrap();
    assert!(values.into_iter().eq(0..50));
    let mut atomic = redis::pipe();
    atomic.atomic().set("{k}a", 1).ignore().incr("{k}a", 1);
    assert_eq!(atomic.query_async::<(u32,)>(&mut redis.clone()).await.unwrap(), (2,));
    assert_eq!(redis.nodes().await.unwrap().len(), 3);
    let pongs = redis.ask_each(&redis::cmd("PING")).await.unwrap();
    assert!(pongs.iter().all(|(_, answer)| answer.is_ok()), "{pongs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_back_and_forth_loses_no_increment() {
    let cluster = RedisCluster::start(0, RedisOptions::default()).await;
    let redis = reach(&cluster.url()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let told = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
    let counting: Vec<_> = ["{n}a", "{n}b"]
        .into_iter()
        .zip(told.clone())
        .map(|(key, told)| {
            let (redis, stop) = (redis.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    // One that reads two keys, which are not always on the same node meanwhile.
                    let script = redis::Script::new("redis.call('GET', KEYS[2]) return redis.call('INCR', KEYS[1])");
                    let now: u64 = script.key(key).key("{n}other").invoke_async(&mut redis.clone()).await.unwrap();
                    assert_eq!(now, told.fetch_add(1, Relaxed) + 1);
                }
            })
        })
        .collect();
    set(&redis, "{n}other", "1").await.unwrap();
    let slot = cluster.slot("{n}");
    for _ in 0..6 {
        let to = (cluster.owner(slot) + 1) % 3;
        tokio::task::block_in_place(|| cluster.reshard(slot, to));
        let moved = told.each_ref().map(|told| told.load(Relaxed));
        eventually("both go on where the slot is now", async || {
            told.iter().zip(moved).all(|(told, moved)| told.load(Relaxed) > moved + 1)
        })
        .await;
    }
    stop.store(true, Relaxed);
    for counting in counting {
        counting.await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_is_on_its_way_is_asked_for_where_it_is() {
    let cluster = RedisCluster::start(0, RedisOptions::default()).await;
    let redis = reach(&cluster.url()).await;
    set(&redis, "{n}a", "1").await.unwrap();
    let slot = cluster.slot("{n}");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    let set_slot = |node: usize, state: &str, other: usize| {
        cluster.nodes[node].command(&["CLUSTER", "SETSLOT", &slot.to_string(), state, &cluster.id(other)])
    };
    set_slot(to, "IMPORTING", from);
    set_slot(from, "MIGRATING", to);
    let port = cluster.nodes[to].port().to_string();
    cluster.nodes[from].command(&["MIGRATE", "127.0.0.1", &port, "{n}a", "0", "10000"]);
    assert_eq!(get(&redis, "{n}a").await.unwrap().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_primary_that_dies_is_replaced_by_its_replica() {
    let mut cluster = RedisCluster::start(1, RedisOptions::default()).await;
    let redis = reach(&cluster.url()).await;
    let owner = cluster.owner(cluster.slot("a"));
    set(&redis, "a", "1").await.unwrap();
    assert_eq!(cluster.nodes[owner].command(&["WAIT", "1", "10000"]), "1");
    cluster.nodes[owner].kill();
    eventually("its replica is reached", async || set(&redis, "b{a}", "2").await.is_ok()).await;
    assert_eq!(get(&redis, "a").await.unwrap().as_deref(), Some("1"));
}
