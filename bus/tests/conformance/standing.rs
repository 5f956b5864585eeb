//! C12: where an event stands with each group, and who waits for it is woken.

use std::collections::BTreeMap;

use bus::{Bus, Group, Mode, Standing, Start, Verb, Which};
use events::{Envelope, Name};

use super::{
    Lab, ack, claim, claim_one, declare, event, nack, nack_after, publish, publish_many, queue, refuse, seconds, settle,
};

async fn standing(bus: &Bus, position: u64) -> BTreeMap<String, Standing> {
    bus.standing(&queue(), 0, position).await.unwrap()
}

async fn of(bus: &Bus, group: &str, position: u64) -> Standing {
    standing(bus, position).await.remove(group).unwrap()
}

async fn name(bus: &Bus, group: &str, position: u64) -> &'static str {
    of(bus, group, position).await.name()
}

pub(crate) async fn an_event_stands_with_each_group_of_its_queue(mut lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "keyed", Mode::Keyed).await;
    let picky = Group::new("picky", "DB/UPDATE".parse().unwrap(), Mode::Parallel);
    bus.declare_group(picky).await.unwrap();
    let elsewhere = Group::new("elsewhere", "ORDERS/*".parse().unwrap(), Mode::Parallel);
    bus.declare_group(elsewhere).await.unwrap();
    publish(&bus, &[("1", "a"), ("2", "b"), ("3", "b"), ("4", "c"), ("5", "d"), ("6", "e")]).await;
    bus.publish(vec![Envelope { event: Name::new("UPDATE").unwrap(), ..event("7", "f") }]).await.unwrap();
    assert_eq!(
        standing(&bus, 7).await,
        BTreeMap::from([("keyed".to_owned(), Standing::Pending), ("picky".to_owned(), Standing::Pending)])
    );
    let leased = claim(&bus, "keyed", 5).await;
    assert_eq!(leased.iter().map(|leased| leased.position).collect::<Vec<_>>(), [1, 2, 4, 5, 6]);
    ack(&bus, "keyed", &leased[..1]).await;
    settle(&bus, "keyed", leased[2].token, nack()).await.unwrap();
    settle(&bus, "keyed", leased[3].token, refuse()).await.unwrap();
    settle(&bus, "keyed", leased[4].token, Verb::Release).await.unwrap();
    let expected = [
        (1, "acked"),
        (2, "leased"),
        (3, "parked"),
        (4, "retrying"),
        (5, "dead"),
        (6, "pending"),
        (7, "pending"),
        (8, "unknown"),
        (0, "unknown"),
    ];
    for (position, stands) in expected {
        assert_eq!(name(&bus, "keyed", position).await, stands, "{position}");
    }
    assert_eq!(of(&bus, "picky", 1).await, Standing::Filtered);
    assert_eq!(bus.redrive("keyed", Which::All).await.unwrap(), 1);
    let redriven = of(&bus, "keyed", 5).await;
    assert!(
        matches!(redriven, Standing::Retrying { .. } | Standing::Pending),
        "it is with its group again: {redriven:?}"
    );
    assert_eq!(bus.standing(&queue(), 9, 1).await.unwrap(), BTreeMap::new(), "no such partition");
    assert_eq!(bus.standing(&Name::new("NONE").unwrap(), 0, 1).await.unwrap(), BTreeMap::new(), "no such queue");
    lab.kill_and_reopen().await;
    for (position, stands) in [(1, "acked"), (3, "parked"), (4, "retrying")] {
        assert_eq!(name(&lab.bus(), "keyed", position).await, stands, "{position}, after a kill");
    }
}

pub(crate) async fn a_standing_says_how_often_until_when_and_behind_what(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("1", "a"), ("2", "a"), ("3", "b")]).await;
    let leased = claim(&bus, "g", 2).await;
    assert_eq!(of(&bus, "g", 1).await, Standing::Leased { attempt: 1, until: leased[0].until });
    assert_eq!(of(&bus, "g", 2).await, Standing::Parked { behind: 1 });
    settle(&bus, "g", leased[0].token, nack_after(seconds(60))).await.unwrap();
    let soon = leased[0].until - seconds(30) + seconds(60);
    match of(&bus, "g", 1).await {
        // What the clock did in between.
        Standing::Retrying { attempt: 2, at } => assert!((at - soon).abs() < seconds(10), "{at}"),
        other => panic!("it is tried again: {other:?}"),
    }
    settle(&bus, "g", leased[1].token, refuse()).await.unwrap();
    let died = bus.dead_letters("g", (0, 0), 1).await.unwrap()[0].died;
    assert_eq!(of(&bus, "g", 3).await, Standing::Dead { reason: "refused".to_owned(), at: died });
}

pub(crate) async fn what_a_group_never_had_is_not_applicable(mut lab: impl Lab) {
    let bus = lab.bus();
    publish_many(&bus, 0..2).await;
    let late = Group { start: Start::Latest, ..Group::new("g", "DB/*".parse().unwrap(), Mode::Parallel) };
    bus.declare_group(late).await.unwrap();
    publish_many(&bus, 2..6).await;
    assert_eq!((of(&bus, "g", 2).await, of(&bus, "g", 3).await), (Standing::NotApplicable, Standing::Pending));
    ack(&bus, "g", &claim(&bus, "g", 1).await).await;
    assert_eq!(of(&bus, "g", 3).await, Standing::Acked);
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    assert_eq!((of(&bus, "g", 2).await, of(&bus, "g", 3).await), (Standing::NotApplicable, Standing::Acked));
    bus.seek("g", Start::Position(6), false).await.unwrap();
    assert_eq!((of(&bus, "g", 5).await, of(&bus, "g", 6).await), (Standing::NotApplicable, Standing::Pending));
    bus.seek("g", Start::Earliest, false).await.unwrap();
    assert_eq!((of(&bus, "g", 1).await, of(&bus, "g", 5).await), (Standing::Pending, Standing::Pending));
    // Nothing is skipped on the way back: what is settled stays so.
    ack(&bus, "g", &claim(&bus, "g", 3).await).await;
    bus.seek("g", Start::Position(3), false).await.unwrap();
    assert_eq!((of(&bus, "g", 2).await, of(&bus, "g", 3).await), (Standing::Acked, Standing::Pending));
}

pub(crate) async fn nobody_knows_of_what_was_trimmed(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..2).await;
    let leased = claim(&bus, "g", 2).await;
    settle(&bus, "g", leased[0].token, refuse()).await.unwrap();
    ack(&bus, "g", &leased[1..]).await;
    for _ in 0..10 {
        lab.advance(seconds(86_400)).await;
    }
    assert_eq!(of(&bus, "g", 2).await, Standing::Unknown);
    assert_eq!(name(&bus, "g", 1).await, "dead", "its letter is kept");
}

pub(crate) async fn a_settlement_wakes_whoever_waits(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..2).await;
    let mut settled = bus.settled(&queue());
    let waiting = {
        let bus = bus.clone();
        tokio::spawn(async move {
            while of(&bus, "g", 1).await != Standing::Acked {
                tokio::time::timeout(seconds(10), settled.changed()).await.expect("it is told").unwrap();
            }
        })
    };
    let leased = claim_one(&bus, "g").await;
    settle(&bus, "g", leased.token, Verb::Extend).await.unwrap();
    ack(&bus, "g", &[leased]).await;
    waiting.await.unwrap();
}

pub(crate) async fn an_event_that_expired_is_not_told_as_acknowledged(mut lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    let soon = time::OffsetDateTime::now_utc() + seconds(3600);
    let brief = |id: &str, key: &str| Envelope { expirytime: Some(soon), ..event(id, key) };
    bus.publish(vec![brief("1", "a"), brief("2", "b"), brief("3", "b"), event("4", "c")]).await.unwrap();
    let leased = claim(&bus, "g", 2).await;
    ack(&bus, "g", &leased[..1]).await;
    settle(&bus, "g", leased[1].token, Verb::Release).await.unwrap();
    lab.advance(seconds(7200)).await;
    ack(&bus, "g", &claim(&bus, "g", 10).await).await;
    for _ in 0..2 {
        for (position, stands) in [(1, "acked"), (2, "expired"), (3, "expired"), (4, "acked")] {
            assert_eq!(name(&lab.bus(), "g", position).await, stands, "{position}");
        }
        lab.kill_and_reopen().await;
    }
    lab.bus().seek("g", Start::Position(3), false).await.unwrap();
    assert_eq!((name(&lab.bus(), "g", 2).await, name(&lab.bus(), "g", 3).await), ("expired", "pending"));
}
