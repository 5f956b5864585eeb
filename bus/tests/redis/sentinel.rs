//! A primary is replaced: by Sentinels who see that it is gone, and behind its back, so that for a while there are two.

use std::{collections::BTreeSet, net::SocketAddr};

use bus::{Confirm, Error, GapReason, Producer, PublishOptions, Refused, TailFrom, Tailed};
use testkit::{Aof, Certificates, Fault, FaultProxy, Redis, RedisOptions, RedisSentinels, Tls};

use super::eventually;
use crate::conformance::{event, publish, queue, seconds};

#[tokio::test]
async fn what_a_replica_has_survives_a_failover() {
    let mut primary = testkit::redis().await;
    let _replica = primary.replica(RedisOptions::default()).await;
    let sentinels = RedisSentinels::watching(&primary, 1).await;
    let bus = bus::redis::open(&sentinels.url()).await.unwrap();
    let replicated =
        PublishOptions { confirm: Confirm::Replicated(1), patience: seconds(30), ..PublishOptions::default() };
    for n in 0..20 {
        let published = bus.publish_with(vec![event(&n.to_string(), "k")], replicated.clone()).await;
        assert_eq!(published.unwrap()[0].as_ref().unwrap().confirmed, Confirm::Replicated(1));
    }
    let before = bus.lineage(&queue(), 0).await.unwrap().unwrap();
    primary.kill();
    eventually("the replica takes events", async || bus.publish(vec![event("after", "k")]).await.is_ok()).await;
    // The former primary comes back, as a replica; nobody is led to it.
    primary.restart().await;
    publish(&bus, &[("last", "k")]).await;
    let page = bus.read(&queue(), 0, 1, 100).await.unwrap();
    let ids: Vec<&str> = page.events.iter().map(|logged| logged.envelope.id.as_str()).collect();
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).chain(["after".to_owned(), "last".to_owned()]).collect();
    assert_eq!(ids, expected, "each once, in order");
    let after = page.lineages.current().unwrap();
    assert_eq!((after.first, after.parent), (21, Some(before.id)));
}

#[tokio::test]
async fn a_new_primary_confirms_what_it_can_not_what_the_former_one_could() {
    let mut primary = testkit::redis().await;
    let _replica = primary.replica(RedisOptions { aof: Aof::EverySecond, ..RedisOptions::default() }).await;
    let sentinels = RedisSentinels::watching(&primary, 1).await;
    let bus = bus::redis::open(&sentinels.url()).await.unwrap();
    let fsynced = PublishOptions { confirm: Confirm::Fsynced, ..PublishOptions::default() };
    let before = bus.publish_with(vec![event("before", "k")], fsynced.clone()).await.unwrap();
    assert_eq!(before[0].as_ref().unwrap().confirmed, Confirm::Fsynced);
    primary.kill();
    eventually("somebody answers", async || match bus.publish_with(vec![event("after", "k")], fsynced.clone()).await {
        Ok(after) => {
            assert_eq!(after[0].as_ref().unwrap().confirmed, Confirm::Stored);
            true
        }
        Err(Error::NotGiven(_)) => true,
        Err(_) => false,
    })
    .await;
}

#[tokio::test]
async fn by_tls_and_as_a_user_a_failover_is_followed_too() {
    let certificates = Certificates::make();
    let tls = Tls { certificates: certificates.clone(), mutual: false };
    let users = [
        "default off",
        "shop on >secret ~tp:* &tp:* +@all -@dangerous +info",
        // As whom replicas and Sentinels come.
        "watch on >watching allkeys allchannels +@all",
    ];
    let options = RedisOptions {
        tls: Some(tls.clone()),
        users: users.map(str::to_owned).to_vec(),
        settings: vec![("masteruser", "watch".to_owned()), ("masterauth", "watching".to_owned())],
        ..RedisOptions::default()
    };
    let mut primary = Redis::start(options.clone()).await;
    let _replica = primary.replica(options).await;
    let sentinels = RedisSentinels::watching_by(&primary, 1, Some(&tls), Some(("watch", "watching"))).await;
    let url = sentinels.url().replace("rediss+sentinel://", "rediss+sentinel://shop:secret@");
    let bus = bus::redis::open(&format!("{url}?ca={}", certificates.authority().display())).await.unwrap();
    let replicated =
        PublishOptions { confirm: Confirm::Replicated(1), patience: seconds(30), ..PublishOptions::default() };
    bus.publish_with(vec![event("before", "k")], replicated).await.unwrap()[0].as_ref().unwrap();
    primary.kill();
    eventually("the replica takes events", async || bus.publish(vec![event("after", "k")]).await.is_ok()).await;
    let page = bus.read(&queue(), 0, 1, 100).await.unwrap();
    let ids: Vec<&str> = page.events.iter().map(|logged| logged.envelope.id.as_str()).collect();
    assert_eq!(ids, ["before", "after"]);
}

#[tokio::test]
async fn a_fork_is_told_to_readers_and_relays() {
    let former = testkit::redis().await;
    let way = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], former.port())), 1).await;
    let settings = vec![("replicaof", format!("127.0.0.1 {}", way.address().port()))];
    let new = Redis::start(RedisOptions { settings, ..RedisOptions::default() }).await;
    new.follows("up").await;
    let stale = bus::redis::open(&former.url()).await.unwrap();
    let replicated =
        PublishOptions { confirm: Confirm::Replicated(1), patience: seconds(30), ..PublishOptions::default() };
    for n in 0..10 {
        stale.publish_with(vec![event(&format!("both-{n}"), "k")], replicated.clone()).await.unwrap()[0]
            .as_ref()
            .unwrap();
    }
    // From here on the replica hears nothing.
    way.set_both(Fault::Swallow);
    let lineage = stale.lineage(&queue(), 0).await.unwrap().unwrap();
    for n in 0..100 {
        publish(&stale, &[(&format!("lost-{n}"), "k")]).await;
    }
    let mut reader = stale.tail("DB/*".parse().unwrap(), TailFrom::Earliest).await.unwrap();
    for _ in 0..110 {
        let told = tokio::time::timeout(seconds(20), reader.next()).await.expect("in time").unwrap();
        assert!(matches!(told, Tailed::Event { .. }), "{told:?}");
    }
    new.command(&["REPLICAOF", "NO", "ONE"]);

    // Both take events: who is connected to the former primary sees nothing of it.
    let bus = bus::redis::open(&new.url()).await.unwrap();
    publish(&bus, &[("new-0", "k"), ("new-1", "k")]).await;
    publish(&stale, &[("stale-0", "k")]).await;
    let forked = bus.lineage(&queue(), 0).await.unwrap().unwrap();
    assert_eq!((forked.first, forked.parent), (11, Some(lineage.id)));

    // A relay that published to the former primary learns what lay beyond the cut.
    let producer = Some(Producer { outbox: "product".into(), first_publish_no: 1 });
    let relay =
        |expected| PublishOptions { producer: producer.clone(), expect_lineage: Some(expected), ..Default::default() };
    let refused = bus.publish_with(vec![event("again", "k")], relay(lineage.id)).await.unwrap();
    assert_eq!(refused, [Err(Refused::LineageChanged { current: Some(forked.id) })]);
    let again = bus.publish_with(vec![event("lost-0", "k")], relay(forked.id)).await.unwrap();
    assert_eq!(again[0].as_ref().unwrap().position, Some(13));

    // So does a reader that was beyond it.
    let mut moved = bus.tail("DB/*".parse().unwrap(), TailFrom::Cursor(reader.cursor())).await.unwrap();
    match tokio::time::timeout(seconds(20), moved.next()).await.expect("in time").unwrap() {
        Tailed::Gap(gap) => assert_eq!((gap.from, gap.reason), (11, GapReason::Lineage)),
        other => panic!("no gap: {other:?}"),
    }

    // The former primary is told to follow: a stale connection can't write to it any more.
    former.command(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
    former.follows("up").await;
    let refused = stale.publish(vec![event("stale-1", "k")]).await;
    assert!(matches!(&refused, Err(Error::Unavailable(_))), "{refused:?}");
    let page = bus.read(&queue(), 0, 1, 100).await.unwrap();
    assert!(page.events.iter().map(|logged| logged.position).eq(1..=13), "dense");
    let ids: BTreeSet<&str> = page.events.iter().map(|logged| logged.envelope.id.as_str()).collect();
    assert!(ids.contains("new-1") && ids.contains("lost-0") && !ids.contains("stale-0"), "{ids:?}");
}
