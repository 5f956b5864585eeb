//! F6, F24, in part: what a kill leaves.

use bus::{Mode, Verb};

use super::{
    Lab, ack, claim, claim_one, declare, ids, nack, publish, publish_many, queue, refuse, seconds, settle, status,
};

pub(crate) async fn what_was_confirmed_is_kept(mut lab: impl Lab) {
    let publishers: Vec<_> = (0..8)
        .map(|publisher| {
            let bus = lab.bus();
            tokio::spawn(async move {
                for n in 0..25 {
                    publish(&bus, &[(&format!("{publisher}-{n}"), &publisher.to_string())]).await;
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    let leased = claim(&bus, "g", 500).await;
    assert_eq!(leased.len(), 200);
    assert!(leased.iter().zip(1..).all(|(leased, position)| leased.position == position), "dense");
    for publisher in 0..8 {
        let own: Vec<_> =
            ids(&leased).into_iter().filter(|id| id.starts_with(&format!("{publisher}-"))).map(str::to_owned).collect();
        assert_eq!(own, (0..25).map(|n| format!("{publisher}-{n}")).collect::<Vec<_>>(), "in the order of each key");
    }
    assert_eq!(publish(&bus, &[("next", "k")]).await[0].position, Some(201));
}

pub(crate) async fn a_lineage_begins_with_its_parent(mut lab: impl Lab) {
    publish(&lab.bus(), &[("a", "k"), ("b", "k")]).await;
    let first = lab.bus().lineage(&queue(), 0).await.unwrap().unwrap();
    assert_eq!((first.first, first.parent), (1, None));
    assert!(i64::try_from(first.id).is_ok());
    lab.kill_and_reopen().await;
    let second = lab.bus().lineage(&queue(), 0).await.unwrap().unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!((second.first, second.parent), (3, Some(first.id)));
    assert_eq!(publish(&lab.bus(), &[("c", "k")]).await[0].lineage, second.id);
    assert_eq!(publish(&lab.bus(), &[("a", "k")]).await[0].lineage, first.id, "a duplicate names its own lineage");
}

pub(crate) async fn groups_go_on_where_they_were(mut lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"), ("d1", "d")]).await;
    let leased = claim(&bus, "g", 3).await;
    assert_eq!(ids(&leased), ["a1", "b1", "c1"]);
    settle(&bus, "g", leased[0].token, nack()).await.unwrap();
    ack(&bus, "g", &leased[1..2]).await;
    settle(&bus, "g", leased[2].token, refuse()).await.unwrap();
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    let status = status(&bus, "g").await;
    assert_eq!((status.lag, status.retrying, status.parked, status.dead), (3, 1, 1, 1));
    let dead = bus.dead_letters("g", (0, 0), 10).await.unwrap();
    assert_eq!(dead[0].envelope.id, "c1");
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["d1"], "a1 waits for its retry, a2 for a1");
    lab.advance(seconds(2)).await;
    let leased = claim_one(&bus, "g").await;
    assert_eq!((leased.envelope.id.as_str(), leased.attempt), ("a1", 2));
    ack(&bus, "g", &[leased]).await;
    assert_eq!(claim_one(&bus, "g").await.envelope.id, "a2");
}

pub(crate) async fn leases_end_and_come_again(mut lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..3).await;
    let leased = claim(&bus, "g", 3).await;
    settle(&bus, "g", leased[1].token, Verb::Ack).await.unwrap();
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    lab.advance(seconds(31)).await;
    for id in ["0", "2"] {
        let leased = claim_one(&bus, "g").await;
        assert_eq!((leased.envelope.id.as_str(), leased.attempt), (id, 1), "two were in flight: neither pays");
        ack(&bus, "g", &[leased]).await;
    }
    assert_eq!(status(&bus, "g").await.lag, 0);
}
