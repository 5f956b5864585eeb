//! C8: where a group starts, and moving it.

use bus::{Error, Group, LeaseLost, Mode, Retry, Sought, Start, Verb};
use time::OffsetDateTime;

use super::{Lab, ack, claim, declare, ids, nack, publish, publish_many, seconds, settle, status};

async fn declare_from(bus: &bus::Bus, name: &str, start: Start) {
    let group = Group { start, ..Group::new(name, "DB/*".parse().unwrap(), Mode::Parallel) };
    bus.declare_group(group).await.unwrap();
}

pub(crate) async fn a_group_declared_later_starts_from_earliest(lab: impl Lab) {
    let bus = lab.bus();
    publish_many(&bus, 0..3).await;
    declare(&bus, "g", Mode::Parallel).await;
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["0", "1", "2"]);
    declare_from(&bus, "g", Start::Latest).await;
    assert_eq!(status(&bus, "g").await.in_flight, 3, "declaring it again doesn't move it");
    let other = Group::new("g", "ORDERS/*".parse().unwrap(), Mode::Parallel);
    assert!(matches!(bus.declare_group(other).await, Err(Error::Conflict(_))));
}

pub(crate) async fn latest_gets_what_comes_after(lab: impl Lab) {
    let bus = lab.bus();
    publish_many(&bus, 0..3).await;
    declare_from(&bus, "g", Start::Latest).await;
    assert!(claim(&bus, "g", 10).await.is_empty());
    publish_many(&bus, 3..4).await;
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["3"]);
}

pub(crate) async fn a_time_and_a_position(lab: impl Lab) {
    let bus = lab.bus();
    publish_many(&bus, 0..3).await;
    lab.advance(seconds(60)).await;
    publish_many(&bus, 3..5).await;
    let recorded = {
        declare_from(&bus, "position", Start::Position(4)).await;
        let leased = claim(&bus, "position", 10).await;
        assert_eq!(ids(&leased), ["3", "4"]);
        leased[0].envelope.recordedtime.unwrap()
    };
    declare_from(&bus, "then", Start::Time(recorded)).await;
    assert_eq!(ids(&claim(&bus, "then", 10).await), ["3", "4"]);
    declare_from(&bus, "before", Start::Time(recorded - seconds(30))).await;
    assert_eq!(ids(&claim(&bus, "before", 10).await), ["3", "4"]);
    declare_from(&bus, "ever", Start::Time(OffsetDateTime::UNIX_EPOCH)).await;
    assert_eq!(claim(&bus, "ever", 10).await.len(), 5);
    declare_from(&bus, "future", Start::Time(recorded + seconds(3600))).await;
    assert!(claim(&bus, "future", 10).await.is_empty());
}

pub(crate) async fn what_a_group_declared_is_told(mut lab: impl Lab) {
    let group = Group {
        start: Start::Position(1),
        lease: seconds(7),
        max_processing: None,
        ..Group::new("g", "DB/*".parse().unwrap(), Mode::Keyed)
    };
    lab.bus().declare_group(group.clone()).await.unwrap();
    // Where it began it did.
    lab.bus().declare_group(Group { start: Start::Latest, lease: seconds(8), ..group }).await.unwrap();
    for _ in 0..2 {
        let told = status(&lab.bus(), "g").await;
        assert_eq!((told.start, told.lease, told.max_processing), (Start::Position(1), seconds(8), None));
        lab.kill_and_reopen().await;
    }
}

pub(crate) async fn an_earlier_declaration_changes_nothing(mut lab: impl Lab) {
    let revision = |revision, filter: &str| Group {
        revision,
        start: Start::Latest,
        ..Group::new("g", filter.parse().unwrap(), Mode::Parallel)
    };
    let declare = async |bus: bus::Bus, group| bus.declare_group(group).await.unwrap();
    declare(lab.bus(), revision(2, "DB/*")).await;
    declare(lab.bus(), revision(1, "DB/NEVER")).await;
    lab.kill_and_reopen().await;
    // By somebody who has not heard of the later one.
    declare(lab.bus(), revision(1, "DB/NEVER")).await;
    assert_eq!(status(&lab.bus(), "g").await.filter.to_string(), "DB/*");
    publish_many(&lab.bus(), 0..1).await;
    assert_eq!(claim(&lab.bus(), "g", 10).await.len(), 1);
    declare(lab.bus(), revision(3, "DB/NEVER")).await;
    publish_many(&lab.bus(), 1..2).await;
    assert!(claim(&lab.bus(), "g", 10).await.is_empty());
}

pub(crate) async fn a_moved_group_works_as_it_was_declared(lab: impl Lab) {
    let bus = lab.bus();
    let group = Group::new("g", "DB/*".parse().unwrap(), Mode::Parallel);
    bus.declare_group(Group { retry: Retry::Patient, in_flight: 1, ..group }).await.unwrap();
    publish_many(&bus, 0..3).await;
    bus.seek("g", Start::Latest, false).await.unwrap();
    bus.seek("g", Start::Earliest, false).await.unwrap();
    let leased = claim(&bus, "g", 10).await;
    assert_eq!(leased.len(), 1);
    settle(&bus, "g", leased[0].token, nack()).await.unwrap();
    lab.advance(seconds(3)).await;
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["1"], "a patient one comes again after five seconds, not after one");
}

pub(crate) async fn seeking_back_brings_events_again_and_drops_leases(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    publish(&bus, &[("a", "k"), ("b", "l"), ("c", "m")]).await;
    let leased = claim(&bus, "g", 10).await;
    ack(&bus, "g", &leased[..1]).await;
    settle(&bus, "g", leased[1].token, nack()).await.unwrap();
    let sought = bus.seek("g", Start::Position(1), false).await.unwrap();
    assert_eq!(sought, Sought { again: 3, skipped: 0, leases: 1 });
    assert_eq!(settle(&bus, "g", leased[2].token, Verb::Ack).await, Err(LeaseLost));
    let again = claim(&bus, "g", 10).await;
    assert_eq!(ids(&again), ["a", "b", "c"]);
    assert!(again.iter().all(|leased| leased.attempt == 1));
    let sought = bus.seek("g", Start::Latest, false).await.unwrap();
    assert_eq!(sought, Sought { again: 0, skipped: 3, leases: 3 });
    assert!(claim(&bus, "g", 10).await.is_empty());
    assert_eq!(status(&bus, "g").await.lag, 0);
}

pub(crate) async fn a_dry_run_changes_nothing(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..5).await;
    let leased = claim(&bus, "g", 2).await;
    ack(&bus, "g", &leased[..1]).await;
    let sought = bus.seek("g", Start::Latest, true).await.unwrap();
    assert_eq!(sought, Sought { again: 0, skipped: 4, leases: 1 });
    settle(&bus, "g", leased[1].token, Verb::Ack).await.unwrap();
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["2", "3", "4"]);
    assert!(matches!(bus.seek("nobody", Start::Latest, true).await, Err(Error::NoGroup(_))));
}
