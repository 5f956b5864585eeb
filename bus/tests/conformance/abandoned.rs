//! C18: a group that nobody claims for holds the log no longer than its queue keeps events; it is told.

use std::{collections::BTreeSet, time::Duration};

use bus::{Bus, LostRange, Mode, Queue, Verb};
use events::Name;
use serde_json::Value;

use super::{Lab, ack, claim, declare, ids, publish_many, queue, seconds, settle, status};

const HOUR: Duration = Duration::from_secs(3600);
/// Between two passes; a longer pause counts as one in which nobody could have claimed.
const STEP: Duration = Duration::from_secs(300);

/// Lets time pass as it does where the bus is kept in order.
async fn pass(lab: &impl Lab, time: Duration) {
    for _ in 0..time.as_secs() / STEP.as_secs() {
        lab.advance(STEP).await;
    }
}

async fn hourly(bus: &Bus) {
    bus.declare_queue(Queue { max_age: HOUR, ..Queue::new(queue()) }).await.unwrap();
}

async fn floor(bus: &Bus) -> u64 {
    bus.queues().await.unwrap().iter().find(|status| status.settings.name == queue()).unwrap().partitions[0].floor
}

/// What was told under this name, with its subject.
pub(crate) async fn told(bus: &Bus, event: &str) -> Vec<(String, Value)> {
    let page = bus.read(&Name::new("SYS").unwrap(), 0, 1, 1000).await.unwrap();
    let events = page.events.iter().map(|logged| &logged.envelope).filter(|envelope| envelope.event.as_str() == event);
    events.map(|envelope| (envelope.subject.clone().unwrap(), envelope.json().unwrap().clone())).collect()
}

pub(crate) async fn a_group_that_nobody_claims_for_loses_its_hold(mut lab: impl Lab) {
    let bus = lab.bus();
    hourly(&bus).await;
    declare(&bus, "g", Mode::Keyed).await;
    publish_many(&bus, 0..3).await;
    pass(&lab, HOUR / 2).await;
    ack(&bus, "g", &claim(&bus, "g", 1).await).await;
    pass(&lab, HOUR / 2 + STEP).await;
    assert_eq!(floor(&bus).await, 2, "it may come back");
    pass(&lab, HOUR).await;
    assert_eq!(floor(&bus).await, 4);
    let group = status(&bus, "g").await;
    assert_eq!((group.lost, group.lost_ranges), (2, vec![LostRange { partition: 0, from: 2, to: 4 }]));
    assert!(group.abandoned.is_some());
    publish_many(&bus, 3..5).await;
    lab.kill_and_reopen().await;
    let bus = lab.bus();
    pass(&lab, 3 * HOUR).await;
    assert_eq!(floor(&bus).await, 6);
    let told = told(&bus, "GROUP_ABANDONED").await;
    let [(subject, data)] = told.as_slice() else { panic!("told once: {told:?}") };
    assert_eq!((subject.as_str(), &data["group"], &data["queue"]), ("groups/g", &"g".into(), &"DB".into()));
    assert_eq!((&data["partition"], &data["from"], &data["to"]), (&0.into(), &2.into(), &4.into()));
    publish_many(&bus, 5..6).await;
    let back = claim(&bus, "g", 10).await;
    assert_eq!(ids(&back), ["5"], "it goes on with what is there");
    let group = status(&bus, "g").await;
    assert_eq!((group.abandoned, group.lost), (None, 4));
}

pub(crate) async fn an_absence_is_told_once_whatever_the_partitions(lab: impl Lab) {
    let bus = lab.bus();
    bus.declare_queue(Queue { partitions: 4, max_age: HOUR, ..Queue::new(queue()) }).await.unwrap();
    declare(&bus, "g", Mode::Parallel).await;
    for absence in 1..=2 {
        publish_many(&bus, 20 * absence..20 * absence + 20).await;
        ack(&bus, "g", &claim(&bus, "g", 1).await).await;
        pass(&lab, 3 * HOUR).await;
        let group = status(&bus, "g").await;
        let lost: BTreeSet<u32> = group.lost_ranges.iter().map(|range| range.partition).collect();
        assert_eq!((lost.len(), group.lag), (4, 0), "every partition lost something");
        let told = told(&bus, "GROUP_ABANDONED").await;
        assert_eq!(told.len(), absence, "{told:?}");
        assert!(told.iter().all(|(subject, data)| subject == "groups/g" && data.get("claimed").is_none()));
    }
}

pub(crate) async fn a_group_that_claims_keeps_its_hold(lab: impl Lab) {
    let bus = lab.bus();
    hourly(&bus).await;
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..3).await;
    for _ in 0..36 {
        pass(&lab, STEP).await;
        for leased in claim(&bus, "g", 1).await {
            settle(&bus, "g", leased.token, Verb::Release).await.unwrap();
        }
    }
    assert_eq!(floor(&bus).await, 1, "three hours, and it has settled none");
    let group = status(&bus, "g").await;
    assert_eq!((group.lost, group.abandoned), (0, None));
    assert!(told(&bus, "GROUP_ABANDONED").await.is_empty());
}

pub(crate) async fn time_in_which_nobody_kept_the_bus_is_nobodys_fault(mut lab: impl Lab) {
    let bus = lab.bus();
    hourly(&bus).await;
    declare(&bus, "g", Mode::Parallel).await;
    publish_many(&bus, 0..3).await;
    lab.advance(seconds(60)).await;
    lab.advance(48 * HOUR).await;
    lab.kill_and_reopen().await;
    lab.advance(48 * HOUR).await;
    assert_eq!(floor(&lab.bus()).await, 1, "its members had no chance");
    assert_eq!(ids(&claim(&lab.bus(), "g", 10).await), ["0", "1", "2"]);
}
