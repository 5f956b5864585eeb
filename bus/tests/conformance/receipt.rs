//! §9, asynchronous: an event that wants a receipt gets one, and only one, that says what became of it (I9).

use std::{collections::BTreeMap, sync::Arc};

use bus::{Bus, Error, Group, Mode, Receipts, Refused, Verb};
use events::{Envelope, Name};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Lab, ack, claim, claim_one, declare, event, eventually, refuse, seconds, settle};

fn replies() -> Name {
    Name::new("REPLIES").unwrap()
}

fn wanting(id: &str) -> Envelope {
    Envelope { replyto: Some("queue:REPLIES".to_owned()), ..event(id, id) }
}

/// Gives receipts as a broker does, until it is dropped: then it is gone at once.
fn give(lab: &impl Lab) -> DropGuard {
    let stop = CancellationToken::new();
    let receipts = Receipts::new(lab.bus()).clock(lab.clock());
    tokio::spawn(receipts.run(stop.clone(), stop.clone()));
    stop.drop_guard()
}

async fn publish(bus: &Bus, events: Vec<Envelope>) {
    for outcome in bus.publish(events).await.unwrap() {
        outcome.unwrap();
    }
}

async fn given(bus: &Bus, queue: &Name) -> Vec<Arc<Envelope>> {
    let page = bus.read(queue, 0, 1, 1000).await.unwrap();
    page.events.into_iter().map(|logged| logged.envelope).collect()
}

async fn receipts(lab: &impl Lab, count: usize) -> Vec<Arc<Envelope>> {
    receipts_in(&replies(), lab, count).await
}

/// Lets time pass until there are so many receipts.
async fn receipts_in(queue: &Name, lab: &impl Lab, count: usize) -> Vec<Arc<Envelope>> {
    let bus = lab.bus();
    let give_up = tokio::time::Instant::now() + seconds(30);
    loop {
        let given = given(&bus, queue).await;
        if given.len() >= count {
            return given;
        }
        assert!(tokio::time::Instant::now() < give_up, "{} of {count} receipts in time", given.len());
        lab.advance(seconds(1)).await;
        // Who gives them looks at the clock now and then.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

pub(crate) async fn a_receipt_for_a_webhook_names_it(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "logger", Mode::Parallel).await;
    let _giving = give(&lab);
    publish(&bus, vec![Envelope { replyto: Some("webhook:wh_1".to_owned()), ..event("a", "key") }]).await;
    ack(&bus, "logger", &claim(&bus, "logger", 1).await).await;
    let receipt = receipts_in(&Name::new("RECEIPT").unwrap(), &lab, 1).await.remove(0);
    let data = receipt.json().unwrap();
    assert_eq!((receipt.event.as_str(), &data["webhook"], &data["id"]), ("COMPLETED", &json!("wh_1"), &json!("a")));
    assert_eq!(receipt.key(), "key", "in the order of its key");
}

pub(crate) async fn a_receipt_says_that_every_group_has_acknowledged(lab: impl Lab) {
    let bus = lab.bus();
    for group in ["logger", "notifier"] {
        declare(&bus, group, Mode::Parallel).await;
    }
    let _giving = give(&lab);
    publish(&bus, vec![wanting("a").owner("ada"), event("b", "b")]).await;
    for group in ["logger", "notifier"] {
        let leased = claim(&bus, group, 10).await;
        assert_eq!(leased.len(), 2);
        ack(&bus, group, &leased).await;
    }
    let receipts = receipts(&lab, 1).await;
    let receipt = &receipts[0];
    assert_eq!((receipt.event.as_str(), receipt.source.as_str()), ("COMPLETED", "/turnpike/receipts"));
    assert_eq!((receipt.causationid.as_deref(), receipt.correlationid.as_deref()), (Some("a"), Some("a")));
    assert_eq!((receipt.owner.as_deref(), receipt.subject.as_deref()), (Some("ada"), Some("a")));
    let data = receipt.json().unwrap();
    assert_eq!(data["groups"], json!({"logger": "acked", "notifier": "acked"}));
    assert_eq!(
        (&data["id"], &data["source"], &data["position"]),
        (&json!("a"), &json!("/services/product"), &json!(1))
    );
    assert_eq!(given(&bus, &replies()).await.len(), 1, "who wants none gets none");
    let told = telemetry::render();
    let counted =
        |line: &str| line.starts_with("turnpike_bus_receipt_total{") && line.contains("outcome=\"completed\"");
    assert!(told.lines().any(counted), "{told}");
}

pub(crate) async fn a_receipt_says_that_a_group_has_given_up(lab: impl Lab) {
    let bus = lab.bus();
    for group in ["refuses", "slow"] {
        declare(&bus, group, Mode::Parallel).await;
    }
    let _giving = give(&lab);
    publish(&bus, vec![wanting("a")]).await;
    let leased = claim_one(&bus, "refuses").await;
    settle(&bus, "refuses", leased.token, refuse()).await.unwrap();
    let slow = claim_one(&bus, "slow").await;
    settle(&bus, "slow", slow.token, Verb::Ack).await.unwrap();
    let receipt = receipts(&lab, 1).await.remove(0);
    assert_eq!(receipt.event.as_str(), "FAILED");
    assert_eq!(receipt.json().unwrap()["groups"], json!({"refuses": "dead", "slow": "acked"}));
}

pub(crate) async fn a_receipt_says_that_its_time_was_over(lab: impl Lab) {
    let bus = lab.bus();
    for group in ["never", "late"] {
        declare(&bus, group, Mode::Parallel).await;
    }
    let expirytime = Some(lab.clock().now() + seconds(60));
    publish(&bus, vec![Envelope { expirytime, ..wanting("a") }]).await;
    lab.advance(seconds(61)).await;
    let _giving = give(&lab);
    let receipt = receipts(&lab, 1).await.remove(0);
    assert_eq!(receipt.event.as_str(), "EXPIRED");
    assert_eq!(receipt.json().unwrap()["groups"], json!({"late": "expired", "never": "expired"}));
}

pub(crate) async fn what_a_group_passed_over_in_time_is_expired_in_its_receipt(lab: impl Lab) {
    let bus = lab.bus();
    for group in ["prompt", "late"] {
        declare(&bus, group, Mode::Parallel).await;
    }
    let expirytime = Some(lab.clock().now() + seconds(60));
    publish(&bus, vec![Envelope { expirytime, ..wanting("a") }, event("b", "b")]).await;
    ack(&bus, "prompt", &claim(&bus, "prompt", 10).await).await;
    lab.advance(seconds(61)).await;
    // Its place is behind the event by now, as if it had handled it.
    let late = claim(&bus, "late", 10).await;
    assert_eq!(late.iter().map(|leased| leased.position).collect::<Vec<_>>(), [2]);
    ack(&bus, "late", &late).await;
    let _giving = give(&lab);
    let receipt = receipts(&lab, 1).await.remove(0);
    assert_eq!(receipt.event.as_str(), "EXPIRED");
    assert_eq!(receipt.json().unwrap()["groups"], json!({"late": "expired", "prompt": "acked"}));
}

pub(crate) async fn what_nobody_takes_is_held_until_somebody_comes(lab: impl Lab) {
    let bus = lab.bus();
    let _giving = give(&lab);
    publish(&bus, vec![wanting("a")]).await;
    for _ in 0..20 {
        // Time must not leap while somebody looks: that would be a lease that ended.
        eventually("it waits", || async {
            let groups = bus.groups().await.unwrap();
            groups.iter().any(|group| group.name == "receipts.DB" && group.retrying == 1)
        })
        .await;
        lab.advance(seconds(60)).await;
    }
    assert!(given(&bus, &replies()).await.is_empty());
    declare(&bus, "late", Mode::Parallel).await;
    let leased = claim(&bus, "late", 1).await;
    ack(&bus, "late", &leased).await;
    assert_eq!(receipts(&lab, 1).await[0].event.as_str(), "COMPLETED");
}

pub(crate) async fn what_nobody_ever_takes_expires_with_its_queue(lab: impl Lab) {
    let bus = lab.bus();
    let _giving = give(&lab);
    publish(&bus, vec![wanting("a")]).await;
    lab.advance(seconds(7 * 86_400 + 60)).await;
    let receipt = receipts(&lab, 1).await.remove(0);
    assert_eq!((receipt.event.as_str(), &receipt.json().unwrap()["groups"]), ("EXPIRED", &json!({})));
}

pub(crate) async fn each_event_has_one_receipt_whoever_gives_it(mut lab: impl Lab) {
    let bus = lab.bus();
    let patient = Group { lease: seconds(3600), ..Group::new("g", "DB/*".parse().unwrap(), Mode::Parallel) };
    bus.declare_group(patient).await.unwrap();
    let giving = [give(&lab), give(&lab)];
    publish(&bus, (0..40).map(|n| wanting(&n.to_string())).collect()).await;
    let leased = claim(&bus, "g", 100).await;
    ack(&bus, "g", &leased[..20]).await;
    receipts(&lab, 10).await;
    // One of them dies in the middle of it, then the bus with the other one.
    let [first, _second] = giving;
    drop(first);
    ack(&bus, "g", &leased[20..30]).await;
    receipts(&lab, 22).await;
    ack(&bus, "g", &leased[30..]).await;
    lab.kill_and_reopen().await;
    let _giving = give(&lab);
    // Leases of those that died end.
    lab.advance(seconds(31)).await;
    let receipts = receipts(&lab, 40).await;
    let mut by_cause: BTreeMap<&str, u32> = BTreeMap::new();
    for receipt in &receipts {
        assert_eq!(receipt.event.as_str(), "COMPLETED");
        *by_cause.entry(receipt.causationid.as_deref().unwrap()).or_default() += 1;
    }
    assert!(by_cause.len() == 40 && by_cause.values().all(|count| *count == 1), "{by_cause:?}");
}

pub(crate) async fn what_gives_receipts_is_waited_for_by_nobody(lab: impl Lab) {
    let bus = lab.bus();
    declare(&bus, "g", Mode::Parallel).await;
    publish(&bus, vec![wanting("a")]).await;
    let leased = claim_one(&bus, "g").await;
    ack(&bus, "g", &[leased]).await;
    let lineage = bus.lineage(&super::queue(), 0).await.unwrap().unwrap().id;
    let place = bus::Place { queue: super::queue(), partition: 0, lineage, position: 1 };
    let delivered = bus.delivered(&place, &[]).await.unwrap();
    assert_eq!((delivered.progress, delivered.groups.len()), (bus::Progress::Delivered, 1));
}

pub(crate) async fn where_no_receipt_can_go_is_refused(lab: impl Lab) {
    let bus = lab.bus();
    for (to, reason) in [
        ("https://example.com/hook", "register it"),
        ("webhook:", "the id of a webhook"),
        ("somewhere", "queue:"),
        ("queue:SYS", "bus's own"),
    ] {
        let event = Envelope { replyto: Some(to.to_owned()), ..event("a", "k") };
        match bus.publish(vec![event]).await.unwrap().remove(0) {
            Err(Refused::Invalid(sentence)) => {
                assert!(sentence.starts_with("replyto: ") && sentence.contains(reason), "{sentence}");
            }
            other => panic!("{to}: {other:?}"),
        }
    }
    assert!(bus.groups().await.unwrap().is_empty());
    let long = Name::new(&"Q".repeat(64)).unwrap();
    let refused = bus.publish(vec![Envelope { queue: long, ..wanting("a") }]).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
}
