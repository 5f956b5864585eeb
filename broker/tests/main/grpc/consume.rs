//! Members whose handlers are on the other side of a stream.

use std::{collections::BTreeMap, time::Duration};

use broker::Settings;
use events::Name;
use proto::turnpike::bus::v1::{
    self as wire,
    consume_request::{Beat, Credit, Message as Said},
    consume_response::Message,
    group::Mode,
};
use testkit::eventually;
use tonic::Code;

use super::fleet::{Member, ack, event, group, ids, nack, parallel, reason, release, settlement};
use crate::{
    follow::lab::{Lab, Running},
    site::SOON,
};

async fn site() -> (Lab, Running) {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    (lab, broker)
}

/// Events in the hands of a group.
async fn in_flight(lab: &Lab, name: &str) -> u64 {
    lab.bus.groups().await.unwrap().into_iter().find(|group| group.name == name).unwrap().in_flight
}

#[tokio::test]
async fn what_is_recorded_is_delivered_and_a_failure_comes_again() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    let mut member = Member::join(&mut alice, parallel("billing"), 8).await;
    lab.publish("DB/CREATE", 0..2).await;
    let first = member.deliveries(2).await;
    assert_eq!((ids(&first), first[0].attempt, first[0].redrive), (vec!["0", "1"], 1, 0));
    member.settled(&first[..1], ack()).await;
    member.settled(&first[1..], nack()).await;
    let again = member.deliveries(1).await;
    assert_eq!((ids(&again), again[0].attempt), (vec!["1"], 2));
    assert_ne!(again[0].token, first[1].token);
    member.settle(&first[1..], ack());
    assert_eq!(member.outcomes().await, [Some("LEASE_LOST".to_owned())], "by an old token");
    member.say(Said::Settle(wire::consume_request::Settle { settlements: vec![settlement("x", ack())] }));
    assert_eq!(member.outcomes().await, [Some("INVALID".to_owned())], "by none");
    member.settled(&again, ack()).await;
    member.finish();
    member.ended().await.unwrap();
}

#[tokio::test]
async fn nothing_comes_beyond_the_credit() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..10).await;
    let mut member = Member::join(&mut alice, parallel("billing"), 3).await;
    let three = member.deliveries(3).await;
    member.is_quiet().await;
    assert_eq!(in_flight(&lab, "billing").await, 3, "nor is it leased");
    member.settled(&three[..1], ack()).await;
    let fourth = member.deliveries(1).await;
    assert_eq!(ids(&fourth), ["3"]);
    member.say(Said::Credit(Credit { credit: 0 }));
    member.settled(&three[1..], ack()).await;
    member.settled(&fourth, ack()).await;
    member.is_quiet().await;
    member.say(Said::Credit(Credit { credit: 6 }));
    let rest = member.deliveries(6).await;
    assert_eq!(ids(&rest), ["4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn a_key_is_handled_in_order_also_across_retries() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    for (id, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")] {
        let event = wire::Event { partition_key: key.to_owned(), ..event("DB/CREATE", id) };
        alice.publish(wire::PublishRequest { events: vec![event], confirm: None }).await.unwrap();
    }
    let mut member = Member::join(&mut alice, group("billing", "DB/*", Mode::Keyed), 64).await;
    let (mut handled, mut failed) = (BTreeMap::<String, Vec<String>>::new(), false);
    while handled.values().map(Vec::len).sum::<usize>() < 5 {
        for delivery in member.deliveries(1).await {
            let event = delivery.event.clone().unwrap();
            if event.id == "a1" && !failed {
                failed = true;
                member.settle(&[delivery], nack());
                continue;
            }
            handled.entry(event.partition_key).or_default().push(event.id);
            member.settle(&[delivery], ack());
        }
    }
    assert_eq!((&handled["a"], &handled["b"]), (&strings(&["a1", "a2", "a3"]), &strings(&["b1", "b2"])));
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[tokio::test]
async fn an_exclusive_group_is_given_one_after_another() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..3).await;
    let mut member = Member::join(&mut alice, group("billing", "DB/*", Mode::Exclusive), 64).await;
    let first = member.deliveries(1).await;
    member.is_quiet().await;
    member.settled(&first, nack()).await;
    for expected in ["0", "1", "2"] {
        let next = member.deliveries(1).await;
        assert_eq!(ids(&next), [expected]);
        member.settled(&next, ack()).await;
    }
}

#[tokio::test]
async fn who_stops_gives_back_what_it_has() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..3).await;
    let mut member = Member::join(&mut alice, parallel("billing"), 3).await;
    let three = member.deliveries(3).await;
    member.settled(&three[..1], ack()).await;
    member.settled(&three[1..2], release()).await;
    member.say(Said::Credit(Credit { credit: 0 }));
    member.finish();
    member.ended().await.unwrap();
    let mut other = Member::join(&mut alice, parallel("billing"), 3).await;
    let mut again = other.deliveries(2).await;
    again.sort_by_key(|delivery| delivery.event.as_ref().unwrap().sequence);
    assert_eq!(ids(&again), ["1", "2"]);
    assert!(again.iter().all(|delivery| delivery.attempt == 1), "nobody had begun");
}

#[tokio::test]
async fn who_is_cut_off_keeps_its_lease_to_the_end() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    let (mut far, line) = broker.grpc_far(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..1).await;
    let mut member = Member::join(&mut far, parallel("billing"), 3).await;
    let begun = member.deliveries(1).await;
    line.cut();
    gone(&lab).await;
    assert_eq!(in_flight(&lab, "billing").await, 1, "it may have been begun");
    let mut other = Member::join(&mut alice, parallel("billing"), 3).await;
    other.is_quiet().await;
    lab.later(Duration::from_secs(31));
    eventually("its lease is over", SOON, || async { (in_flight(&lab, "billing").await == 0).then_some(()) }).await;
    // By the schedule: an expiry is a failed attempt.
    lab.later(Duration::from_secs(2));
    let again = other.deliveries(1).await;
    assert_eq!(ids(&again), ["0"]);
    other.settle(&begun, ack());
    assert_eq!(other.outcomes().await, [Some("LEASE_LOST".to_owned())], "of the one that was cut off");
    other.settled(&again, ack()).await;
}

/// Until nobody is connected.
async fn gone(lab: &Lab) {
    eventually("the broker has noticed", SOON, || async { lab.bus.roster().here().is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn a_delivery_is_settled_by_another_stream_of_the_same_member() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    let (mut far, line) = broker.grpc_far(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..2).await;
    let mut member = Member::join(&mut far, parallel("billing"), 3).await;
    let two = member.deliveries(2).await;
    line.cut();
    gone(&lab).await;
    // A long handler outlives its stream: by the next one, or by a call.
    let mut next = Member::join(&mut alice, parallel("billing"), 3).await;
    next.settled(&two[..1], ack()).await;
    let settlements = vec![settlement(&two[1].token, ack())];
    let settled = alice.settle(wire::SettleRequest { group: "billing".to_owned(), settlements }).await.unwrap();
    assert_eq!(super::fleet::reasons(settled.into_inner().outcomes), [None]);
    assert_eq!(in_flight(&lab, "billing").await, 0);
}

#[tokio::test]
async fn what_a_slow_client_has_not_taken_is_released_when_it_is_gone() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    let (mut far, line) = broker.grpc_far(&lab.operator_who_reads()).await;
    for id in 0..60 {
        let data = Some(wire::event::Data::Binary(vec![7; 200_000]));
        let event = wire::Event { data, ..event("DB/CREATE", &id.to_string()) };
        alice.publish(wire::PublishRequest { events: vec![event], confirm: None }).await.unwrap();
    }
    // Takes the welcome and nothing more.
    let _member = Member::join(&mut far, parallel("billing"), 60).await;
    eventually("all are leased", SOON, || async { (in_flight(&lab, "billing").await == 60).then_some(()) }).await;
    line.cut();
    gone(&lab).await;
    eventually("most are released", SOON, || async { (in_flight(&lab, "billing").await < 30).then_some(()) }).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_place() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { stall: Duration::from_millis(300), ..Settings::default() }).await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    for id in 0..60 {
        let data = Some(wire::event::Data::Binary(vec![7; 200_000]));
        let event = wire::Event { data, ..event("DB/CREATE", &id.to_string()) };
        alice.publish(wire::PublishRequest { events: vec![event], confirm: None }).await.unwrap();
    }
    let _member = Member::join(&mut alice, parallel("billing"), 60).await;
    gone(&lab).await;
}

#[tokio::test]
async fn a_client_that_is_not_heard_of_is_sent_away() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..1).await;
    let lease = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let brief = |name| wire::Group { lease, ..parallel(name) };
    let mut silent = Member::join(&mut alice, brief("billing"), 1).await;
    silent.deliveries(1).await;
    assert_eq!(reason(silent.ended().await, Code::Aborted), "SILENT");
    // One that says that it lives stays.
    let mut alive = Member::join(&mut alice, brief("shipping"), 1).await;
    let delivery = alive.deliveries(1).await;
    for _ in 0..20 {
        alive.say(Said::Beat(Beat {}));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    alive.settled(&delivery, ack()).await;
}

#[tokio::test]
async fn leases_are_extended_for_a_client_that_lives_but_not_for_ever() {
    let (lab, broker) = site().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..1).await;
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let group = wire::Group { lease: seconds(1), max_processing: seconds(4), ..parallel("billing") };
    let mut member = Member::join(&mut alice, group, 1).await;
    let delivery = member.deliveries(1).await;
    let name = Name::new("DB").unwrap();
    let lost = loop {
        member.say(Said::Beat(Beat {}));
        if let Ok(heard) = tokio::time::timeout(Duration::from_millis(100), member.heard()).await
            && let Message::LeaseLost(lost) = heard.unwrap().unwrap()
        {
            break lost;
        }
    };
    assert_eq!(lost.tokens, [delivery[0].token.clone()], "handling took too long");
    eventually("it is tried again later", SOON, || async {
        let retrying = lab.bus.groups().await.unwrap()[0].retrying;
        (retrying == 1 && lab.bus.standing(&name, 0, 1).await.unwrap().len() == 1).then_some(())
    })
    .await;
}
