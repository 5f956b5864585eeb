//! F19: a flushed Redis, and groups that were far behind.

use std::collections::BTreeMap;

use bus::{Bus, Claim, Group, Leased, Mode, Settlement, Verb};
use database::params;
use outbox::Relay;

use crate::{SOURCE, Shop, Working, all_sent, logged, update, versions};

async fn claim(bus: &Bus, group: &str) -> Vec<Leased> {
    let claim = Claim { group: group.to_owned(), member: "member".to_owned(), max: 100, bytes: 1 << 20 };
    bus.claim(claim).await.unwrap().leased
}

async fn ack(bus: &Bus, group: &str, leased: &[Leased]) {
    let acks = leased.iter().map(|leased| Settlement { token: leased.token, verb: Verb::Ack }).collect();
    bus.settle(group, acks).await.unwrap().into_iter().for_each(|outcome| outcome.unwrap());
}

#[tokio::test]
async fn a_group_three_days_behind_gets_everything_after_a_flush() {
    let server = testkit::redis().await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    for shop in Shop::every().await {
        server.command(&["FLUSHALL"]);
        let group = Group::new("behind", "DB/*".parse().unwrap(), Mode::Keyed);
        bus.declare_group(group.clone()).await.unwrap();
        let database = shop.database().await;
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        for n in 0..60 {
            update(&database, if n % 2 == 0 { "lamp" } else { "desk" }).await;
        }
        all_sent(&database).await;
        logged(&bus, 60).await;
        let first = claim(&bus, "behind").await;
        ack(&bus, "behind", &first).await;
        // It was all sent three days ago.
        let mut tx = database.begin().await.unwrap();
        let three_days = 3 * 86_400 * 1_000_000_i64;
        tx.execute("UPDATE outbox SET sent_at = sent_at - $1, created_at = created_at - $1", params![three_days])
            .await
            .unwrap();
        tx.commit().await.unwrap();

        server.command(&["FLUSHALL"]);
        let log = logged(&bus, 60).await;
        assert!(versions(&log, "lamp").into_iter().eq(1..=30) && versions(&log, "desk").into_iter().eq(1..=30));
        bus.declare_group(group).await.unwrap();
        let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        while seen.values().map(Vec::len).sum::<usize>() < 60 {
            let leased = claim(&bus, "behind").await;
            assert!(!leased.is_empty(), "{seen:?}");
            for leased in &leased {
                let version = leased.envelope.json().unwrap()["version"].as_i64().unwrap();
                seen.entry(leased.envelope.subject.clone().unwrap()).or_default().push(version);
            }
            ack(&bus, "behind", &leased).await;
        }
        assert!(seen.values().all(|versions| versions.iter().copied().eq(1..=30)), "{seen:?}");
        relay.drain().await;
    }
}
