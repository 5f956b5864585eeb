//! A node that stops sends its clients on, and what they have not begun to others; a bus that is away is waited for.

use std::time::Duration;

use broker::Settings;
use proto::turnpike::bus::v1::{self as wire, consume_response::Message};
use testkit::eventually;
use tonic::Code;

use super::fleet::{Member, ack, ids, parallel, reason};
use crate::{follow::lab::Lab, site::SOON};

#[tokio::test]
async fn a_member_finishes_what_it_has_begun_and_is_sent_on() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { drain: Duration::from_millis(200), ..Settings::default() }).await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    let exclusive = super::fleet::group("billing", "DB/*", wire::group::Mode::Exclusive);
    lab.publish("DB/CREATE", 0..3).await;
    // One is in its hands; the others are leased to it and wait.
    let mut member = Member::join(&mut alice, exclusive.clone(), 8).await;
    let begun = member.deliveries(1).await;
    let request = wire::SubscribeRequest { filter: "DB/*".to_owned(), ..wire::SubscribeRequest::default() };
    let mut stream = alice.subscribe(request).await.unwrap().into_inner();
    broker.shutdown.begin(Duration::from_secs(300));
    eventually("what it has not begun is released", SOON, || async {
        (lab.bus.groups().await.unwrap()[0].in_flight == 1).then_some(())
    })
    .await;
    let Message::GoAway(go_away) = member.next().await else { panic!("not sent away") };
    assert_eq!(go_away.reason, "DRAIN");
    assert!(go_away.retry_after.is_some());
    member.settled(&begun, ack()).await;
    assert_eq!(reason(member.ended().await, Code::Unavailable), "DRAIN");
    let ended = loop {
        match stream.message().await {
            Ok(told) => assert!(told.is_some(), "not without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason(Err::<(), _>(ended), Code::Unavailable), "DRAIN");
    drop((member, stream, alice));
    broker.stop(Duration::from_secs(300)).await;
    let other = lab.broker().await;
    let mut alice = other.grpc(&lab.operator_who_reads()).await;
    let mut member = Member::join(&mut alice, exclusive, 8).await;
    let next = member.deliveries(1).await;
    assert_eq!((ids(&next), next[0].attempt), (vec!["1"], 1));
}

#[tokio::test]
async fn what_is_dropped_is_dropped_at_once() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { drain: Duration::from_secs(300), ..Settings::default() }).await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    lab.publish("DB/CREATE", 0..1).await;
    let mut member = Member::join(&mut alice, parallel("billing"), 8).await;
    member.deliveries(1).await;
    broker.shutdown.escalate();
    assert_eq!(reason(member.ended().await, Code::Unavailable), "DRAIN");
    broker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_member_waits_for_a_bus_that_is_away() {
    let mut redis = testkit::redis().await;
    let lab = Lab::open().await;
    let bus = bus::redis::open(&redis.url()).await.unwrap();
    let broker = lab.broker_on(bus.clone(), Settings::default()).await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    let mut member = Member::join(&mut alice, parallel("billing"), 8).await;
    bus.publish(vec![crate::follow::lab::event("DB/CREATE", "1")]).await.unwrap();
    let first = member.deliveries(1).await;
    redis.kill();
    // Settled in its absence, told once it is back.
    member.settle(&first, ack());
    let publish = wire::PublishRequest { events: vec![super::fleet::event("DB/CREATE", "2")], confirm: None };
    assert_eq!(reason(alice.publish(publish.clone()).await, Code::Unavailable), "UNAVAILABLE");
    redis.restart().await;
    assert_eq!(member.outcomes().await, [None]);
    eventually("it takes events again", SOON, || async { alice.clone().publish(publish.clone()).await.ok() }).await;
    let second = member.deliveries(1).await;
    assert_eq!(ids(&second), ["2"]);
    member.settled(&second, ack()).await;
}
