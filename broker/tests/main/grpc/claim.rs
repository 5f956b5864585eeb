//! Claiming and settling call by call.

use std::time::Duration;

use proto::turnpike::bus::v1::{self as wire, Delivery};
use testkit::eventually;
use tonic::Code;

use super::fleet::{Client, ack, ids, nack, parallel, reason, reasons, settlement};
use crate::{
    follow::lab::{Lab, Running},
    site::SOON,
};

async fn site() -> (Lab, Running, Client) {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    alice.declare_group(wire::DeclareGroupRequest { group: Some(parallel("billing")) }).await.unwrap();
    (lab, broker, alice)
}

fn request(max: u32, wait: Duration) -> wire::ClaimRequest {
    let wait = Some(wait.try_into().unwrap());
    wire::ClaimRequest { group: "billing".to_owned(), member: "m1".to_owned(), max, max_bytes: 0, wait }
}

async fn claim(client: &mut Client, max: u32, wait: Duration) -> Vec<Delivery> {
    client.claim(request(max, wait)).await.unwrap().into_inner().deliveries
}

async fn settle(client: &mut Client, deliveries: &[Delivery], verb: wire::settlement::Verb) -> Vec<Option<String>> {
    let settlements = deliveries.iter().map(|delivery| settlement(&delivery.token, verb.clone())).collect();
    let request = wire::SettleRequest { group: "billing".to_owned(), settlements };
    reasons(client.settle(request).await.unwrap().into_inner().outcomes)
}

#[tokio::test]
async fn events_are_claimed_and_settled_once() {
    let (lab, _broker, mut alice) = site().await;
    assert_eq!(claim(&mut alice, 10, Duration::ZERO).await, []);
    lab.publish("DB/CREATE", 0..3).await;
    let two = claim(&mut alice, 2, Duration::ZERO).await;
    assert_eq!(ids(&two), ["0", "1"]);
    assert_eq!(settle(&mut alice, &two, ack()).await, [None, None]);
    assert_eq!(settle(&mut alice, &two[..1], nack()).await, [Some("LEASE_LOST".to_owned())]);
    let extend = wire::settlement::Verb::Extend(wire::settlement::Extend {});
    let last = claim(&mut alice, 0, Duration::ZERO).await;
    assert_eq!(settle(&mut alice, &last, extend).await, [None]);
    let later = wire::settlement::Defer { delay: Some(prost_types::Duration::default()) };
    assert_eq!(settle(&mut alice, &last, wire::settlement::Verb::Defer(later)).await, [None]);
    let last = claim(&mut alice, 0, Duration::from_secs(20)).await;
    assert_eq!((ids(&last), last[0].attempt), (vec!["2"], 1), "a deferral is no attempt");
    let dead = wire::settlement::Verb::Dead(wire::settlement::Dead { reason: "unreadable".to_owned() });
    assert_eq!(settle(&mut alice, &last, dead).await, [None]);
    assert_eq!(lab.bus.dead_letters("billing", (0, 0), 10).await.unwrap()[0].error, "unreadable");
}

#[tokio::test]
async fn a_claim_waits_for_the_first_event() {
    let (lab, _broker, mut alice) = site().await;
    let mut waiting = alice.clone();
    let claimed = tokio::spawn(async move { claim(&mut waiting, 10, Duration::from_secs(60)).await });
    waits(&lab).await;
    lab.publish("DB/CREATE", 0..1).await;
    assert_eq!(ids(&claimed.await.unwrap()), ["0"]);
    assert_eq!(claim(&mut alice, 10, Duration::from_millis(50)).await, []);
}

async fn waits(lab: &Lab) {
    eventually("it waits", SOON, || async { (lab.bus.roster().here().len() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn who_hangs_up_while_it_waits_takes_nothing_along() {
    let (lab, _broker, mut alice) = site().await;
    let mut waiting = alice.clone();
    let claimed = tokio::spawn(async move { claim(&mut waiting, 10, Duration::from_secs(60)).await });
    waits(&lab).await;
    claimed.abort();
    // What is answered before that holds its lease: nobody can know that nobody reads it.
    eventually("it is noticed", SOON, || async { lab.bus.roster().here().is_empty().then_some(()) }).await;
    lab.publish("DB/CREATE", 0..1).await;
    let claimed = eventually("nobody else has it", SOON, || async {
        let claimed = claim(&mut alice.clone(), 10, Duration::ZERO).await;
        (!claimed.is_empty()).then_some(claimed)
    })
    .await;
    assert_eq!((ids(&claimed), claimed[0].attempt), (vec!["0"], 1));
    assert_eq!(settle(&mut alice, &claimed, ack()).await, [None]);
}

#[tokio::test]
async fn what_a_claim_may_not_be_is_refused() {
    let (_lab, _broker, mut alice) = site().await;
    let invalid = Code::InvalidArgument;
    assert_eq!(reason(alice.claim(request(1001, Duration::ZERO)).await, invalid), "INVALID");
    assert_eq!(reason(alice.claim(request(1, Duration::from_secs(61))).await, invalid), "INVALID");
    let nobody = wire::ClaimRequest { member: String::new(), ..request(1, Duration::ZERO) };
    assert_eq!(reason(alice.claim(nobody).await, invalid), "INVALID");
    let unknown = wire::ClaimRequest { group: "nothing".to_owned(), ..request(1, Duration::ZERO) };
    assert_eq!(reason(alice.claim(unknown).await, Code::NotFound), "NOT_FOUND");
    let none = wire::SettleRequest { group: "billing".to_owned(), settlements: Vec::new() };
    assert_eq!(reason(alice.settle(none).await, invalid), "INVALID");
}

#[tokio::test]
async fn no_more_bytes_are_claimed_than_a_client_takes() {
    let (lab, _broker, mut alice) = site().await;
    for id in 0..20 {
        let event = crate::follow::lab::event("DB/CREATE", &id.to_string()).binary("a/b", vec![7; 250_000]);
        lab.bus.publish(vec![event]).await.unwrap()[0].as_ref().unwrap();
    }
    let first = alice.claim(request(20, Duration::ZERO)).await.unwrap().into_inner();
    assert!((1..=6).contains(&first.deliveries.len()), "{}", first.deliveries.len());
    assert!(first.more);
}
