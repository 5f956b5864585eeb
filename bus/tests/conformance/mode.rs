//! Modes and filters: who gets what, and what must wait.

use bus::{Group, Mode, Verb};
use events::{Envelope, Name};

use super::{
    Lab, ack, claim, claim_all, claim_one, declare, event, ids, nack, publish, queue, refuse, seconds, settle, status,
};

pub(crate) async fn a_key_has_one_unsettled_delivery(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a1", "a"), ("b1", "b"), ("a2", "a"), ("a3", "a"), ("b2", "b")]).await;
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(ids(&leased), ["a1", "b1"]);
    assert_eq!(status(&bus, "g").await.parked, 3);
    assert!(claim_all(&bus, "g", "another", 10).await.leased.is_empty());
    ack(&bus, "g", &leased[..1]).await;
    let next = claim(&bus, "g", 10).await;
    assert_eq!(ids(&next), ["a2"]);
    ack(&bus, "g", &leased[1..]).await;
    ack(&bus, "g", &next).await;
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["a3", "b2"]);
}

pub(crate) async fn a_key_keeps_its_order_across_retries(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a1", "a"), ("a2", "a")]).await;
    let first = claim_one(&bus, "g").await;
    settle(&bus, "g", first.token, nack()).await.unwrap();
    assert!(claim(&bus, "g", 10).await.is_empty(), "a2 waits for a1's retry");
    publish(&bus, &[("a3", "a")]).await;
    assert!(claim(&bus, "g", 10).await.is_empty());
    lab.advance(seconds(2)).await;
    for id in ["a1", "a2", "a3"] {
        let leased = claim(&bus, "g", 10).await;
        assert_eq!(ids(&leased), [id]);
        ack(&bus, "g", &leased).await;
    }
}

pub(crate) async fn other_keys_go_on_while_one_waits(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a1", "a"), ("a2", "a")]).await;
    let first = claim_one(&bus, "g").await;
    settle(&bus, "g", first.token, nack()).await.unwrap();
    publish(&bus, &[("b1", "b"), ("c1", "c")]).await;
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["b1", "c1"]);
}

pub(crate) async fn a_dead_letter_frees_its_key(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a1", "a"), ("a2", "a")]).await;
    let first = claim_one(&bus, "g").await;
    let woken = bus.claimable("g");
    settle(&bus, "g", first.token, refuse()).await.unwrap();
    assert!(woken.has_changed().unwrap());
    assert_eq!(claim_one(&bus, "g").await.envelope.id, "a2");
}

pub(crate) async fn parallel_takes_all_at_once(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a1", "a"), ("a2", "a"), ("a3", "a")]).await;
    assert_eq!(ids(&claim_all(&bus, "g", "one", 2).await.leased), ["a1", "a2"]);
    assert_eq!(ids(&claim_all(&bus, "g", "two", 2).await.leased), ["a3"]);
}

pub(crate) async fn exclusive_is_one_member_in_order(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Exclusive).await;
    publish(&bus, &[("1", "a"), ("2", "b"), ("3", "c"), ("4", "d")]).await;
    let leased = claim_all(&bus, "g", "owner", 3).await.leased;
    assert_eq!(ids(&leased), ["1", "2", "3"]);
    assert!(claim_all(&bus, "g", "other", 10).await.leased.is_empty(), "one member a partition");
    ack(&bus, "g", &leased[..1]).await;
    settle(&bus, "g", leased[1].token, nack()).await.unwrap();
    settle(&bus, "g", leased[2].token, Verb::Ack).await.expect_err("what was leased behind it comes again after it");
    for member in ["owner", "other"] {
        assert!(claim_all(&bus, "g", member, 10).await.leased.is_empty(), "nothing passes what is retried");
    }
    lab.advance(seconds(2)).await;
    let leased = claim_all(&bus, "g", "other", 10).await.leased;
    assert_eq!(ids(&leased), ["2", "3", "4"]);
    // A member that dies: each comes alone until one is through, and still in order.
    lab.advance(seconds(31)).await;
    for id in ["2", "3", "4"] {
        lab.advance(seconds(2)).await;
        let leased = claim_all(&bus, "g", "third", 1).await.leased;
        assert_eq!(ids(&leased), [id]);
        ack(&bus, "g", &leased).await;
    }
}

pub(crate) async fn exclusive_keeps_its_order_between_members_of_one_name(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Exclusive).await;
    publish(&bus, &[("1", "a"), ("2", "b"), ("3", "c")]).await;
    let one = claim_all(&bus, "g", "twin", 1).await.leased;
    assert_eq!(ids(&one), ["1"]);
    assert!(claim_all(&bus, "g", "twin", 10).await.leased.is_empty(), "the other one of that name");
    let woken = bus.claimable("g");
    ack(&bus, "g", &one).await;
    assert!(woken.has_changed().unwrap(), "whoever waits for its turn is woken");
    let other = claim_all(&bus, "g", "twin", 2).await.leased;
    assert_eq!(ids(&other), ["2", "3"]);
    ack(&bus, "g", &other[..1]).await;
    assert!(claim_all(&bus, "g", "twin", 10).await.leased.is_empty());
    settle(&bus, "g", other[1].token, Verb::Release).await.unwrap();
    assert_eq!(ids(&claim_all(&bus, "g", "twin", 10).await.leased), ["3"]);
}

pub(crate) async fn a_filter_passes_over_the_others(lab: impl Lab) {
    let bus = lab.bus();
    let group = Group::new("g", "DB/{UPDATE,DELETE}".parse().unwrap(), Mode::Parallel);
    bus.declare_group(group).await.unwrap();
    let named = |id: &str, name: &str| Envelope { event: Name::new(name).unwrap(), ..event(id, "k") };
    let events = vec![named("a", "CREATE"), named("b", "UPDATE"), named("c", "CREATE"), named("d", "DELETE")];
    bus.publish(events).await.unwrap();
    let other = Envelope { queue: Name::new("ORDERS").unwrap(), ..named("e", "UPDATE") };
    bus.publish(vec![other]).await.unwrap();
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(ids(&leased), ["b", "d"]);
    ack(&bus, "g", &leased).await;
    assert_eq!(status(&bus, "g").await.lag, 0, "what is filtered is no lag");
    assert_eq!(bus.tail("DB/*".parse().unwrap(), bus::TailFrom::Latest).await.unwrap().cursor().position(0), Some(4));
    assert_eq!(bus.lineage(&queue(), 0).await.unwrap().unwrap().first, 1);
}

pub(crate) async fn a_condition_is_judged_before_the_claim(lab: impl Lab) {
    let bus = lab.bus();
    let filter = "DB/*[data.status=NEW][priority in 7|8]".parse().unwrap();
    bus.declare_group(Group::new("g", filter, Mode::Keyed)).await.unwrap();
    let about = |id: &str, status: &str, priority| {
        event(id, "k").priority(priority).data(serde_json::json!({ "status": status }))
    };
    bus.publish(vec![about("a", "OLD", 7), about("b", "NEW", 7), about("c", "NEW", 4), about("d", "NEW", 8)])
        .await
        .unwrap();
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(ids(&leased), ["b"]);
    ack(&bus, "g", &leased).await;
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(ids(&leased), ["d"]);
    ack(&bus, "g", &leased).await;
    assert_eq!(status(&bus, "g").await.lag, 0, "what is filtered is no lag");
    for (position, filtered) in [(1, true), (2, false), (3, true), (4, false)] {
        let standing = &bus.standing(&queue(), 0, position).await.unwrap()["g"];
        assert_eq!(*standing == bus::Standing::Filtered, filtered, "{position}");
    }
    assert_eq!(status(&bus, "g").await.filter.to_string(), "DB/*[data.status=NEW][priority in 7|8]", "kept");
}

pub(crate) async fn an_expired_event_is_not_delivered(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    let soon = time::OffsetDateTime::now_utc() + seconds(60);
    let brief = |id| Envelope { expirytime: Some(soon), ..event(id, id) };
    bus.publish(vec![brief("a"), event("b", "b"), brief("c")]).await.unwrap();
    let first = claim_one(&bus, "g").await;
    settle(&bus, "g", first.token, Verb::Release).await.unwrap();
    lab.advance(seconds(120)).await;
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["b"]);
    assert_eq!(status(&bus, "g").await.lag, 1, "those that are over are settled");
}

pub(crate) async fn a_stuck_key_blocks_the_group_at_ten_thousand(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    for batch in 0..41 {
        let events = (0..250).map(|n| event(&format!("{batch}-{n}"), "stuck")).collect();
        bus.publish(events).await.unwrap();
    }
    publish(&bus, &[("free", "free")]).await;
    let stuck = claim_one(&bus, "g").await;
    while claim_all(&bus, "g", "member", 10).await.more {}
    let blocked = status(&bus, "g").await;
    assert!(blocked.blocked_by_key);
    assert_eq!((blocked.in_flight, blocked.parked), (1, 9_999));
    settle(&bus, "g", stuck.token, Verb::Ack).await.unwrap();
    let next = claim(&bus, "g", 10).await;
    assert_eq!(ids(&next), ["0-1"], "it goes on in order");
}
