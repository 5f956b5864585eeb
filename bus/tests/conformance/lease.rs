//! C5, C6, F3, F4: leases, and who may settle.

use std::collections::BTreeSet;

use bus::{Claim, Group, LeaseLost, Mode, Queue, Verb};

use super::{
    Lab, ack, claim, claim_all, claim_one, declare, event, eventually, ids, nack, nack_after, publish, publish_many,
    queue, seconds, settle, status,
};

pub(crate) async fn an_expired_lease_comes_again_and_its_token_is_stale(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    let first = claim_one(&bus, "g").await;
    assert!(claim(&bus, "g", 10).await.is_empty(), "it is leased");
    lab.advance(seconds(31)).await;
    for verb in [Verb::Extend, Verb::Ack, nack(), Verb::Release] {
        assert_eq!(settle(&bus, "g", first.token, verb).await, Err(LeaseLost));
    }
    lab.advance(seconds(2)).await;
    let second = claim_one(&bus, "g").await;
    assert_eq!((second.position, second.attempt), (first.position, 2), "the member held nothing else: it counts");
    assert_eq!(second.first_delivered, first.first_delivered);
    assert_eq!(settle(&bus, "g", first.token, Verb::Ack).await, Err(LeaseLost), "it is another's now");
    ack(&bus, "g", &[second]).await;
    assert_eq!(status(&bus, "g").await.lag, 0);
}

pub(crate) async fn an_extended_lease_outlives_its_first_end(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    let leased = claim_one(&bus, "g").await;
    for _ in 0..5 {
        lab.advance(seconds(20)).await;
        settle(&bus, "g", leased.token, Verb::Extend).await.unwrap();
    }
    assert!(claim(&bus, "g", 1).await.is_empty());
    settle(&bus, "g", leased.token, Verb::Ack).await.unwrap();
}

pub(crate) async fn a_settled_delivery_can_not_be_settled_again(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    declare(&bus, "other", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    let leased = claim_one(&bus, "g").await;
    assert_eq!(settle(&bus, "other", leased.token, Verb::Ack).await, Err(LeaseLost), "another group's token");
    settle(&bus, "g", leased.token, Verb::Ack).await.unwrap();
    assert_eq!(settle(&bus, "g", leased.token, Verb::Ack).await, Err(LeaseLost));
    assert_eq!(settle(&bus, "g", leased.token, nack()).await, Err(LeaseLost));
}

pub(crate) async fn what_was_leased_to_a_caller_who_went_comes_again_uncharged(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 3, ..Queue::new(queue()) }).await.unwrap();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..9).await;
    let in_flight = async || status(&bus, "g").await.in_flight;
    // Before there is an answer, and with the answer there, unread.
    for unread in [false, true] {
        let claiming = loop {
            let claim = Claim { group: "g".into(), member: "gone".into(), max: 100, bytes: 1 << 20 };
            let mut claiming = Box::pin(bus.claim(claim));
            let at_once = tokio::select! {
                biased;
                claimed = &mut claiming => claimed.unwrap(),
                () = std::future::ready(()) => break claiming,
            };
            // It was faster than whoever goes.
            for leased in at_once.leased {
                settle(&bus, "g", leased.token, Verb::Release).await.unwrap();
            }
        };
        if unread {
            eventually("it leased something", async || in_flight().await > 0).await;
        }
        drop(claiming);
        eventually("all can be claimed", async || {
            let leased = claim_all(&bus, "g", "member", 100).await.leased;
            assert!(leased.iter().all(|leased| leased.attempt == 1), "uncharged");
            let all = leased.len() == 9;
            for leased in leased {
                settle(&bus, "g", leased.token, Verb::Release).await.unwrap();
            }
            all
        })
        .await;
        eventually("nobody holds any", async || in_flight().await == 0).await;
    }
}

pub(crate) async fn released_events_come_again_uncharged(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    for _ in 0..20 {
        let leased = claim_one(&bus, "g").await;
        assert_eq!(leased.attempt, 1);
        settle(&bus, "g", leased.token, Verb::Release).await.unwrap();
    }
}

pub(crate) async fn a_member_that_dies_with_several_charges_none(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..3).await;
    assert_eq!(claim(&bus, "g", 10).await.len(), 3);
    lab.advance(seconds(31)).await;
    for _ in 0..3 {
        let suspect = claim_one(&bus, "g").await;
        assert_eq!(suspect.attempt, 1);
        ack(&bus, "g", &[suspect]).await;
    }
    assert_eq!(status(&bus, "g").await.lag, 0);
}

pub(crate) async fn a_member_that_dies_with_one_of_each_partition_charges_none(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 3, ..Queue::new(queue()) }).await.unwrap();
    declare(&bus, "g", Mode::Parallel).await;
    let mut filled = BTreeSet::new();
    for n in 0..100 {
        let key = n.to_string();
        if filled.insert(bus.partition(&queue(), &key).await.unwrap().index) {
            publish(&bus, &[(&key, &key)]).await;
        }
    }
    assert_eq!(claim(&bus, "g", 10).await.len(), 3);
    lab.advance(seconds(31)).await;
    for _ in 0..3 {
        let suspect = claim_one(&bus, "g").await;
        assert_eq!(suspect.attempt, 1);
        ack(&bus, "g", &[suspect]).await;
    }
}

pub(crate) async fn suspects_are_leased_alone(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..4).await;
    let busy = claim_all(&bus, "g", "busy", 1).await.leased;
    assert_eq!(claim_all(&bus, "g", "dies", 2).await.leased.len(), 2);
    lab.advance(seconds(29)).await;
    settle(&bus, "g", busy[0].token, Verb::Extend).await.unwrap();
    lab.advance(seconds(2)).await;
    assert!(claim_all(&bus, "g", "busy", 10).await.leased.is_empty(), "it holds something, and suspects wait");
    ack(&bus, "g", &busy).await;
    let suspect = claim_all(&bus, "g", "busy", 10).await.leased;
    assert_eq!(ids(&suspect), ["1"], "alone, though more is there");
    assert!(claim_all(&bus, "g", "busy", 10).await.leased.is_empty(), "nothing beside a suspect");
    let other = claim_all(&bus, "g", "idle", 10).await.leased;
    assert_eq!(ids(&other), ["2"], "another member takes the other one");
    ack(&bus, "g", &suspect).await;
    assert_eq!(ids(&claim_all(&bus, "g", "busy", 10).await.leased), ["3"], "then it goes on as before");
}

pub(crate) async fn three_expiries_alone_are_a_crash_loop(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..3).await;
    // "1" kills whoever holds it; at first it takes its neighbours along.
    assert_eq!(claim(&bus, "g", 10).await.len(), 3);
    lab.advance(seconds(31)).await;
    for _ in 0..40 {
        lab.advance(seconds(1)).await;
        if let [leased] = claim(&bus, "g", 10).await.as_slice() {
            if leased.envelope.id == "1" {
                lab.advance(seconds(31)).await;
            } else {
                assert_eq!(leased.attempt, 1, "the innocent pay nothing");
                settle(&bus, "g", leased.token, Verb::Ack).await.unwrap();
            }
        }
    }
    let dead = bus.dead_letters("g", (0, 0), 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].reason.as_str(), dead[0].attempts), ("crash_loop", 3));
    assert_eq!(dead[0].envelope.id, "1");
    assert_eq!(status(&bus, "g").await.lag, 0);
}

pub(crate) async fn a_claim_keeps_to_its_limits(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    for n in 0..5 {
        let large = event(&n.to_string(), "k").data("x".repeat(10_000).into());
        bus.publish(vec![large]).await.unwrap()[0].as_ref().unwrap();
    }
    let some = claim_all(&bus, "g", "m", 2).await;
    assert_eq!((some.leased.len(), some.more), (2, true));
    let claim = Claim { group: "g".into(), member: "m".into(), max: 10, bytes: 15_000 };
    let some = bus.claim(claim.clone()).await.unwrap();
    assert_eq!((some.leased.len(), some.more), (2, true), "the one that reaches the limit is the last");
    let none = bus.claim(Claim { bytes: 1, ..claim.clone() }).await.unwrap();
    assert_eq!(none.leased.len(), 1, "at least one, however large");
    assert!(!bus.claim(claim).await.unwrap().more);
}

pub(crate) async fn at_most_a_thousand_are_in_flight(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..1100).await;
    let first = claim_all(&bus, "g", "a", 600).await.leased;
    let second = claim_all(&bus, "g", "b", 600).await.leased;
    assert_eq!((first.len(), second.len()), (600, 400));
    assert!(claim_all(&bus, "g", "c", 600).await.leased.is_empty());
    let woken = bus.claimable("g");
    ack(&bus, "g", &first[..1]).await;
    assert!(woken.has_changed().unwrap(), "whoever waits for room is woken");
    assert_eq!(claim_all(&bus, "g", "c", 600).await.leased.len(), 1);
}

pub(crate) async fn a_group_may_have_fewer_in_flight(mut lab: impl Lab) {
    let bus = lab.bus();
    let few = Group { in_flight: 3, ..Group::new("g", "DB/*".parse().unwrap(), Mode::Parallel) };
    bus.declare_group(few).await.unwrap();
    publish_many(&bus, 0..10).await;
    let first = claim_all(&bus, "g", "a", 2).await.leased;
    assert_eq!((first.len(), claim_all(&bus, "g", "b", 10).await.leased.len()), (2, 1), "whoever has them");
    let woken = bus.claimable("g");
    ack(&bus, "g", &first[..1]).await;
    assert!(woken.has_changed().unwrap(), "whoever waits for room is woken");
    assert_eq!(claim_all(&bus, "g", "c", 10).await.leased.len(), 1);
    // What waits for another attempt is not in flight.
    settle(&bus, "g", first[1].token, nack_after(seconds(60))).await.unwrap();
    assert_eq!(claim_all(&bus, "g", "c", 10).await.leased.len(), 1);
    lab.kill_and_reopen().await;
    // Where leases end with the process that gave them, some come again.
    assert!(claim_all(&lab.bus(), "g", "d", 10).await.leased.len() <= 3, "it is remembered");
}
