//! Who comes and goes, and how soon that is known.

use registry::{INSTANCES, Instance, LIFETIME, Registry};

use crate::stage::{Following, Process};

#[tokio::test]
async fn who_comes_and_who_leaves_is_known_at_once() {
    let redis = testkit::redis().await;
    let registry = Registry::new(&redis.url()).unwrap();
    let mut following = Following::new(&registry, "product");
    let stays = Process::announcing(&registry, "product", Instance::new("10.0.0.1:7001").with("version", "1.2.3"));
    following.until_known(&["10.0.0.1:7001"]).await;
    assert_eq!(following.standing().instances[0].metadata["version"], "1.2.3");
    assert!(stays.announcement().standing().announced);

    let _other_service = Process::announcing(&registry, "review", Instance::new("10.0.0.9:7003"));
    let mut removals = Vec::new();
    for _ in 0..10 {
        let leaves = Process::announcing(&registry, "product", Instance::new("10.0.0.2:7001"));
        following.until_known(&["10.0.0.1:7001", "10.0.0.2:7001"]).await;
        let began = std::time::Instant::now();
        leaves.leave().await;
        following.until_known(&["10.0.0.1:7001"]).await;
        removals.push(began.elapsed());
    }
    removals.sort_unstable();
    println!("an orderly removal was seen after {:?} (median), {:?} (slowest)", removals[5], removals[9]);
}

#[tokio::test]
async fn who_is_killed_is_gone_when_it_has_been_silent_for_its_lifetime() {
    let redis = testkit::redis().await;
    let registry = Registry::new(&redis.url()).unwrap();
    let mut following = Following::new(&registry, "product");
    let _stays = Process::announcing(&registry, "product", Instance::new("a:1"));
    let killed = Process::announcing(&registry, "product", Instance::new("b:1"));
    following.until_known(&["a:1", "b:1"]).await;
    killed.kill();
    let took = following.until_known(&["a:1"]).await;
    println!("a killed instance was gone after {took:?}");
    // Its last heartbeat may be a second old. How long it may take is the machine's affair.
    assert!(took + registry::HEARTBEAT * 2 > LIFETIME, "{took:?}");
}

#[tokio::test]
async fn who_takes_an_address_over_keeps_it_when_the_one_before_leaves() {
    let redis = testkit::redis().await;
    let registry = Registry::new(&redis.url()).unwrap();
    let mut following = Following::new(&registry, "product");
    let before = Process::announcing(&registry, "product", Instance::new("a:1").with("version", "1"));
    following.until_known(&["a:1"]).await;
    before.kill();
    let _after = Process::announcing(&registry, "product", Instance::new("a:1").with("version", "2"));
    following.until("the new one is known", |standing| standing.instances[0].metadata["version"] == "2").await;
    assert_eq!(following.standing().instances.len(), 1);
}

#[tokio::test]
async fn one_instance_too_many_has_to_wait() {
    let redis = testkit::redis().await;
    let registry = Registry::new(&redis.url()).unwrap();
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    // As many as there may be, all alive for a while.
    let (beats, instances) = ("tp:registry:{full}:beats", "tp:registry:{full}:instances");
    let mut fill = redis::pipe();
    for n in 0..INSTANCES {
        let address = format!("a:{}", n + 1);
        let about = format!(r#"{{"id":"{n}","address":"{address}"}}"#);
        fill.zadd(beats, &address, 1e15).hset(instances, &address, about);
    }
    fill.exec_async(&mut connection).await.unwrap();
    let mut following = Following::new(&registry, "full");
    following.until("all are known", |standing| standing.instances.len() == INSTANCES).await;

    let waits = Process::announcing(&registry, "full", Instance::new("z:1"));
    testkit::eventually("it is refused", crate::stage::BOUND, || async {
        waits.announcement().standing().error.filter(|error| error.contains("1024"))
    })
    .await;
    redis::pipe().zrem(beats, "a:1").hdel(instances, "a:1").exec_async(&mut connection).await.unwrap();
    following
        .until("it is let in", |standing| standing.instances.last().is_some_and(|last| last.address == "z:1"))
        .await;
    assert_eq!(following.standing().instances.len(), INSTANCES);
}

#[tokio::test]
async fn what_can_t_be_announced_is_refused() {
    let registry = Registry::new("redis://127.0.0.1:1").unwrap();
    assert!(registry.announce("product", Instance::new("0.0.0.0:7001")).is_err());
    assert!(registry.announce("a product", Instance::new("10.0.0.1:7001")).is_err());
    assert!(registry.follow("").is_err());
    let error = Registry::new("secret@nowhere").unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
}
