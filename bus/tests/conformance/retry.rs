//! C4: when a failed delivery comes again.

use std::time::Duration;

use bus::{Group, Mode, Retry, Verb, Which};

use super::{
    Lab, ack, claim, claim_one, declare, ids, nack, nack_after, publish, publish_many, seconds, settle, status,
};

const SCHEDULE: [u64; 8] = [1, 5, 30, 120, 600, 1800, 3600, 10_800];

pub(crate) async fn the_schedule_is_kept_with_jitter(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..20).await;
    for (failed, scheduled) in SCHEDULE.iter().enumerate() {
        let leased = claim(&bus, "g", 100).await;
        assert_eq!(leased.len(), 20, "attempt {}", failed + 1);
        for leased in leased {
            assert_eq!(leased.attempt as usize, failed + 1);
            settle(&bus, "g", leased.token, nack()).await.unwrap();
        }
        lab.advance(seconds(*scheduled).mul_f64(0.8) - Duration::from_millis(1)).await;
        let early = status(&bus, "g").await;
        assert_eq!((early.retrying, early.in_flight), (20, 0), "none before 80 % of {scheduled} s");
        lab.advance(seconds(*scheduled).mul_f64(0.2)).await;
        let waiting = status(&bus, "g").await.retrying;
        assert!((1..20).contains(&waiting), "jitter spreads them: {waiting} of 20 wait after {scheduled} s");
        lab.advance(seconds(*scheduled).mul_f64(0.2) + Duration::from_millis(1)).await;
        assert_eq!(status(&bus, "g").await.retrying, 0, "all by 120 % of {scheduled} s");
    }
}

pub(crate) async fn a_patient_group_goes_on_for_three_days(mut lab: impl Lab) {
    let bus = lab.bus();
    let group = Group { retry: Retry::Patient, ..Group::new("g", "DB/*".parse().unwrap(), Mode::Keyed) };
    bus.declare_group(group.clone()).await.unwrap();
    publish(&bus, &[("a", "k")]).await;
    for scheduled in [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400] {
        let leased = claim_one(&bus, "g").await;
        settle(&bus, "g", leased.token, nack()).await.unwrap();
        lab.advance(seconds(scheduled).mul_f64(0.8) - Duration::from_millis(1)).await;
        assert!(claim(&bus, "g", 1).await.is_empty(), "not before 80 % of {scheduled} s");
        lab.advance(seconds(scheduled).mul_f64(0.4) + Duration::from_millis(2)).await;
    }
    // What was declared is kept.
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    let leased = claim_one(&bus, "g").await;
    assert_eq!(leased.attempt, 10);
    settle(&bus, "g", leased.token, nack()).await.unwrap();
    assert_eq!(bus.dead_letters("g", (0, 0), 10).await.unwrap()[0].reason, "exhausted");
}

pub(crate) async fn a_handler_may_choose_the_delay_up_to_a_day(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    let leased = claim_one(&bus, "g").await;
    settle(&bus, "g", leased.token, nack_after(seconds(7))).await.unwrap();
    lab.advance(Duration::from_millis(6999)).await;
    assert!(claim(&bus, "g", 1).await.is_empty());
    lab.advance(Duration::from_millis(1)).await;
    let leased = claim_one(&bus, "g").await;
    settle(&bus, "g", leased.token, nack_after(seconds(100 * 86_400))).await.unwrap();
    lab.advance(seconds(86_399)).await;
    assert!(claim(&bus, "g", 1).await.is_empty());
    lab.advance(seconds(1)).await;
    assert_eq!(claim_one(&bus, "g").await.attempt, 3);
}

pub(crate) async fn a_due_retry_wakes_the_group(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    let leased = claim_one(&bus, "g").await;
    settle(&bus, "g", leased.token, nack_after(seconds(60))).await.unwrap();
    let mut woken = bus.claimable("g");
    lab.advance(seconds(59)).await;
    assert!(claim(&bus, "g", 1).await.is_empty());
    woken.borrow_and_update();
    lab.advance(seconds(1)).await;
    assert!(woken.has_changed().unwrap());
}

pub(crate) async fn what_waits_may_come_at_once(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    let placed = publish(&bus, &[("a", "k"), ("b", "l"), ("c", "m")]).await;
    for (leased, verb) in claim(&bus, "g", 3).await.iter().zip([nack_after(seconds(600)), defer(seconds(600)), nack()])
    {
        settle(&bus, "g", leased.token, verb).await.unwrap();
    }
    let mut woken = bus.claimable("g");
    assert!(claim(&bus, "g", 3).await.is_empty());
    woken.borrow_and_update();
    let second = (placed[1].partition, placed[1].position.unwrap());
    assert_eq!(bus.hurry("g", Which::These(vec![second, (9, 1)])).await.unwrap(), 1);
    assert!(woken.has_changed().unwrap());
    let leased = claim(&bus, "g", 3).await;
    assert_eq!((ids(&leased), leased[0].attempt), (vec!["b"], 1), "it was no attempt");
    assert_eq!(bus.hurry("g", Which::These(vec![second])).await.unwrap(), 0, "it doesn't wait");
    assert_eq!(bus.hurry("g", Which::All).await.unwrap(), 2);
    let leased = claim(&bus, "g", 3).await;
    assert_eq!((ids(&leased), leased[0].attempt), (vec!["a", "c"], 2));
    assert!(bus.hurry("nobody", Which::All).await.is_err());
}

fn defer(delay: Duration) -> Verb {
    Verb::Defer { delay }
}

pub(crate) async fn a_deferred_event_comes_again_uncharged(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, &[("a", "k")]).await;
    for _ in 0..20 {
        let leased = claim_one(&bus, "g").await;
        assert_eq!(leased.attempt, 1, "it was no attempt");
        settle(&bus, "g", leased.token, defer(seconds(5))).await.unwrap();
        assert!(settle(&bus, "g", leased.token, Verb::Ack).await.is_err(), "the lease is over");
        assert_eq!(status(&bus, "g").await.retrying, 1);
        lab.advance(Duration::from_millis(4999)).await;
        assert!(claim(&bus, "g", 1).await.is_empty());
        lab.advance(Duration::from_millis(1)).await;
    }
    let leased = claim_one(&bus, "g").await;
    settle(&bus, "g", leased.token, defer(seconds(100 * 86_400))).await.unwrap();
    lab.advance(seconds(86_400)).await;
    assert_eq!(claim_one(&bus, "g").await.attempt, 1, "a day is the longest");
}

pub(crate) async fn a_deferred_event_keeps_its_key_s_turn(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a", "k"), ("b", "k"), ("c", "other")]).await;
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(ids(&leased), ["a", "c"]);
    settle(&bus, "g", leased[0].token, defer(seconds(60))).await.unwrap();
    assert!(claim(&bus, "g", 10).await.is_empty(), "what comes after it waits");
    lab.advance(seconds(60)).await;
    let leased = claim_one(&bus, "g").await;
    assert_eq!(leased.envelope.id, "a");
    ack(&bus, "g", &[leased]).await;
    assert_eq!(claim_one(&bus, "g").await.envelope.id, "b");
}

pub(crate) async fn a_deferred_event_holds_an_exclusive_group(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Exclusive).await;
    publish_many(&bus, 0..3).await;
    let leased = claim(&bus, "g", 3).await;
    settle(&bus, "g", leased[0].token, defer(seconds(60))).await.unwrap();
    assert!(settle(&bus, "g", leased[1].token, Verb::Ack).await.is_err(), "it comes again after the first");
    assert!(claim(&bus, "g", 10).await.is_empty());
    lab.advance(seconds(60)).await;
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["0", "1", "2"]);
}
