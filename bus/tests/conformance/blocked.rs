//! `on_dead: block`: a key, or the partition of an exclusive group, waits for its dead letter.

use bus::{Bus, Group, Mode, OnDead, Standing, Which};

use super::{Lab, ack, claim, claim_one, ids, publish, publish_many, queue, refuse, seconds, settle, status};

async fn declare(bus: &Bus, mode: Mode, on_dead: OnDead) {
    let group = Group { on_dead, ..Group::new("g", "DB/*".parse().unwrap(), mode) };
    bus.declare_group(group).await.unwrap();
}

/// A group whose key `k` is blocked by its first event, `a`; `b` and `c` wait for it.
async fn blocked(bus: &Bus) {
    declare(bus, Mode::Keyed, OnDead::Block).await;
    publish(bus, &[("a", "k"), ("b", "k"), ("other", "o"), ("c", "k")]).await;
    let leased = claim(bus, "g", 10).await;
    assert_eq!(ids(&leased), ["a", "other"]);
    settle(bus, "g", leased[0].token, refuse()).await.unwrap();
    ack(bus, "g", &leased[1..]).await;
}

async fn counts(bus: &Bus) -> (u64, u64, u64, u64) {
    let status = status(bus, "g").await;
    (status.dead, status.blocked, status.parked, status.lag)
}

pub(crate) async fn a_key_waits_for_its_dead_letter_also_after_a_restart(mut lab: impl Lab) {
    blocked(&lab.bus()).await;
    for _ in 0..2 {
        let bus = lab.bus();
        assert!(claim(&bus, "g", 10).await.is_empty());
        assert_eq!(counts(&bus).await, (1, 1, 2, 2));
        let of = async |position| bus.standing(&queue(), 0, position).await.unwrap().remove("g").unwrap();
        assert_eq!(of(1).await.name(), "dead");
        assert_eq!(of(2).await, Standing::Parked { behind: 1 });
        assert_eq!(status(&bus, "g").await.on_dead, OnDead::Block, "it is stored");
        lab.kill_and_reopen().await;
    }
}

pub(crate) async fn a_redriven_letter_comes_before_those_that_wait_for_it(lab: impl Lab) {
    let bus = lab.bus();
    blocked(&bus).await;
    for redrive in 1..3 {
        assert_eq!(bus.redrive("g", Which::All).await.unwrap(), 1);
        lab.advance(seconds(1)).await;
        let leased = claim_one(&bus, "g").await;
        assert_eq!((leased.envelope.id.as_str(), leased.redrive, leased.attempt), ("a", redrive, 1));
        assert!(claim(&bus, "g", 10).await.is_empty(), "still its turn");
        settle(&bus, "g", leased.token, refuse()).await.unwrap();
        assert_eq!(counts(&bus).await, (1, 1, 2, 2), "dead again, and in the way again");
    }
    assert_eq!(bus.redrive("g", Which::These(vec![(0, 1)])).await.unwrap(), 1);
    lab.advance(seconds(1)).await;
    for id in ["a", "b", "c"] {
        let leased = claim_one(&bus, "g").await;
        assert_eq!(leased.envelope.id, id);
        ack(&bus, "g", &[leased]).await;
    }
    assert_eq!(counts(&bus).await, (0, 0, 0, 0));
}

pub(crate) async fn a_discarded_letter_frees_its_key(lab: impl Lab) {
    let bus = lab.bus();
    blocked(&bus).await;
    let mut woken = bus.claimable("g");
    woken.borrow_and_update();
    assert_eq!(bus.discard("g", Which::All).await.unwrap(), 1);
    assert!(woken.has_changed().unwrap(), "who waits to claim is told");
    assert_eq!(claim_one(&bus, "g").await.envelope.id, "b");
    assert_eq!(counts(&bus).await, (0, 0, 1, 2));
}

pub(crate) async fn an_exclusive_group_stops_at_its_dead_letter(mut lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, Mode::Exclusive, OnDead::Block).await;
    publish_many(&bus, 0..3).await;
    let leased = claim(&bus, "g", 2).await;
    settle(&bus, "g", leased[0].token, refuse()).await.unwrap();
    assert!(settle(&bus, "g", leased[1].token, bus::Verb::Ack).await.is_err(), "it must come after the letter");
    assert!(claim(&bus, "g", 10).await.is_empty());
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    assert!(claim(&bus, "g", 10).await.is_empty());
    assert_eq!(status(&bus, "g").await.blocked, 1);
    assert_eq!(bus.redrive("g", Which::All).await.unwrap(), 1);
    lab.advance(seconds(1)).await;
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["0", "1", "2"]);
}

pub(crate) async fn a_letter_that_blocks_is_kept_however_old(lab: impl Lab) {
    let bus = lab.bus();
    blocked(&bus).await;
    for _ in 0..40 {
        lab.advance(seconds(86_400)).await;
    }
    assert_eq!(counts(&bus).await, (1, 1, 2, 2));
    assert_eq!(bus.redrive("g", Which::All).await.unwrap(), 1);
    lab.advance(seconds(1)).await;
    let leased = claim_one(&bus, "g").await;
    assert_eq!(leased.envelope.id, "a", "the log has trimmed it, the letter has not");
    ack(&bus, "g", &[leased]).await;
    assert_eq!(claim_one(&bus, "g").await.envelope.id, "b", "what waits is not trimmed");
}

pub(crate) async fn a_group_that_no_longer_blocks_goes_on(lab: impl Lab) {
    let bus = lab.bus();
    blocked(&bus).await;
    declare(&bus, Mode::Keyed, OnDead::Continue).await;
    assert_eq!(claim_one(&bus, "g").await.envelope.id, "b");
    assert_eq!(counts(&bus).await, (1, 0, 1, 2), "the letter stays a letter");
}
