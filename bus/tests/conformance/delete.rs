//! A group that nobody wants any more goes, with all that it knows.

use bus::{Claim, Error, Mode, Verb};

use super::{Lab, ack, claim, claim_one, declare, ids, publish_many, queue, refuse, settle, status};

pub(crate) async fn a_deleted_group_holds_nothing_and_is_waited_for_by_nobody(mut lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Keyed).await;
    declare(&bus, "other", Mode::Parallel).await;
    publish_many(&bus, 0..3).await;
    let leased = claim(&bus, "g", 2).await;
    settle(&bus, "g", leased[0].token, refuse()).await.unwrap();
    bus.delete_group("g").await.unwrap();

    let gone = |error| matches!(error, Error::NoGroup(name) if name == "g");
    let again = Claim { group: "g".into(), member: "member".into(), max: 1, bytes: 1 };
    assert!(gone(bus.claim(again.clone()).await.unwrap_err()));
    let late = vec![bus::Settlement { token: leased[1].token, verb: Verb::Ack }];
    assert!(gone(bus.settle("g", late).await.unwrap_err()));
    assert!(gone(bus.dead_letters("g", (0, 0), 10).await.unwrap_err()));
    let names = async |bus: &bus::Bus| -> Vec<String> {
        bus.groups().await.unwrap().into_iter().map(|status| status.name).collect()
    };
    assert_eq!(names(&bus).await, ["other"]);
    let standing = bus.standing(&queue(), 0, 2).await.unwrap();
    assert_eq!(standing.into_keys().collect::<Vec<_>>(), ["other"]);
    let other = claim(&bus, "other", 10).await;
    assert_eq!(ids(&other), ["0", "1", "2"], "whoever else there is goes on");
    ack(&bus, "other", &other).await;

    lab.kill_and_reopen().await;
    assert_eq!(names(&lab.bus()).await, ["other"]);
    assert!(gone(lab.bus().claim(again).await.unwrap_err()));
}

pub(crate) async fn a_deleted_group_may_begin_anew(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..2).await;
    let first = claim_one(&bus, "g").await;
    settle(&bus, "g", first.token, refuse()).await.unwrap();
    bus.delete_group("g").await.unwrap();
    declare(&bus, "g", Mode::Parallel).await;
    assert_eq!(status(&bus, "g").await.dead, 0);
    assert_eq!(ids(&claim(&bus, "g", 10).await), ["0", "1"], "it knows of nothing");
}

pub(crate) async fn a_group_that_is_not_there_is_deleted_already(lab: impl Lab) {
    lab.bus().delete_group("g").await.unwrap();
    declare(&lab.bus(), "g", Mode::Parallel).await;
    lab.bus().delete_group("g").await.unwrap();
    lab.bus().delete_group("g").await.unwrap();
}
