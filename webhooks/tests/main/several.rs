//! Several processes deliver for the same endpoint.

use std::{collections::BTreeSet, time::Duration};

use bus::Receipts;
use events::Envelope;
use testkit::eventually;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use webhooks::{Begin, Change, NewEndpoint};

use crate::{
    lab::{Lab, SOON, event, new},
    receiver::{Receiver, Reply},
};

#[tokio::test]
async fn an_event_goes_to_one_of_them_and_those_that_stay_take_over() {
    let mut lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.another();
    let ids: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let events: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
    lab.publish("ORDERS", &events[..30]).await;
    lab.come(&receiver, 30).await;
    lab.settled(&endpoint.id).await;
    lab.kill().await;
    lab.publish("ORDERS", &events[30..]).await;
    lab.settled(&endpoint.id).await;
    assert_eq!(BTreeSet::from_iter(receiver.ids()).len(), 60);
    assert_eq!(receiver.requests().len(), 60, "each once");
}

#[tokio::test]
async fn what_one_changes_another_follows() {
    let mut lab = Lab::start().await;
    let (first, second) = (Receiver::that_takes_all().await, Receiver::that_takes_all().await);
    let other = lab.another();
    let (endpoint, _) = lab.endpoint(&first, "ORDERS/*").await;
    lab.somebody_is_at(&endpoint).await;
    other.disable(&endpoint.id).await.unwrap();
    lab.nobody_is_at(&endpoint).await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    let change = webhooks::Change { url: Some(second.url()), ..webhooks::Change::default() };
    other.change(&endpoint.id, change).await.unwrap();
    other.enable(&endpoint.id, webhooks::Begin::Then, false).await.unwrap();
    lab.come(&second, 1).await;
    assert!(first.requests().is_empty());
}

#[tokio::test]
async fn receipts_come_to_the_webhook_that_was_named_in_the_order_of_their_key() {
    let lab = Lab::start().await;
    let (worker, teller, other) =
        (Receiver::that_takes_all().await, Receiver::that_takes_all().await, Receiver::that_takes_all().await);
    let ordered = |receiver: &Receiver, filter: &str| NewEndpoint { ordered: true, ..new(receiver, filter) };
    let (works, _) = lab.webhooks.create(ordered(&worker, "ORDERS/*")).await.unwrap();
    let (tells, _) = lab.webhooks.create(ordered(&teller, "NEVER/*")).await.unwrap();
    let (others, _) = lab.webhooks.create(ordered(&other, "NEVER/*")).await.unwrap();
    for endpoint in [&tells, &others] {
        assert!(lab.webhooks.take_receipts(&endpoint.id).await.unwrap().receipts);
    }
    let stop = CancellationToken::new();
    let receipts = Receipts::new(lab.bus.clone());
    let giving = tokio::spawn(receipts.run(stop.clone(), stop.clone()));
    for n in 0..100 {
        let event =
            Envelope { replyto: Some(format!("webhook:{}", tells.id)), ..event("ORDERS", &format!("e{n:03}"), "k") };
        lab.bus.publish(vec![event]).await.unwrap().remove(0).unwrap();
    }
    // Who gives receipts looks again later and later: time must pass for that.
    eventually("a receipt each", SOON, || async {
        lab.let_pass(std::time::Duration::from_secs(1));
        (teller.requests().len() >= 100).then_some(())
    })
    .await;
    lab.settled(&works.id).await;
    let told: Vec<String> =
        teller.requests().iter().map(|told| told.event()["data"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, (0..100).map(|n| format!("e{n:03}")).collect::<Vec<_>>());
    assert!(teller.requests().iter().all(|told| told.event()["event"] == "COMPLETED"));
    assert!(other.requests().is_empty(), "each gets its own");
    stop.cancel();
    giving.await.unwrap();
}

/// One process is asked, and another one, which has not noticed, delivers.
async fn a_change_holds_once_it_is_answered(lab: Lab) {
    let (first, second) = (Receiver::that_takes_all().await, Receiver::that_takes_all().await);
    let asked = lab.elsewhere().await;
    let (endpoint, _) = lab.endpoint(&first, "ORDERS/*[data.id^=a],NOTES/*[data.id=1],NOTES/*[data.id=2]").await;
    lab.publish("ORDERS", &[("a1", "k"), ("b1", "k")]).await;
    lab.publish("NOTES", &[("3", "k")]).await;
    lab.come(&first, 1).await;
    lab.settled(&endpoint.id).await;
    for round in 0..5 {
        // Wider, elsewhere; and narrower again, there.
        let wider =
            Change { url: Some(second.url()), filter: Some("ORDERS/*,NOTES/*".to_owned()), ..Change::default() };
        asked.change(&endpoint.id, wider).await.unwrap();
        let (order, note) = (format!("b{round}x"), format!("n{round}"));
        lab.publish("ORDERS", &[(&order, "k")]).await;
        lab.publish("NOTES", &[(&note, "k")]).await;
        lab.come(&second, 2 * (round + 1)).await;
        let narrower = Change {
            url: Some(first.url()),
            filter: Some("ORDERS/*[data.id^=a],NOTES/*[data.id=1]".to_owned()),
            ..Change::default()
        };
        asked.change(&endpoint.id, narrower).await.unwrap();
        lab.publish("NOTES", &[(&format!("no{round}"), "k")]).await;
        lab.publish("ORDERS", &[(&format!("no{round}"), "k"), (&format!("a{round}x"), "k")]).await;
        lab.come(&first, round + 2).await;
        lab.settled(&endpoint.id).await;
    }
    assert_eq!((first.requests().len(), second.requests().len()), (6, 10));
}

#[tokio::test]
async fn a_change_holds_at_once_whoever_delivers() {
    a_change_holds_once_it_is_answered(Lab::start().await).await;
}

#[tokio::test]
async fn a_change_holds_at_once_on_a_bus_that_processes_share() {
    a_change_holds_once_it_is_answered(Lab::on_redis(OffsetDateTime::now_utc()).await).await;
}

#[tokio::test]
async fn what_is_disabled_or_removed_elsewhere_gets_nothing_more() {
    let lab = Lab::on_redis(OffsetDateTime::now_utc()).await;
    let (disabled, removed) = (Receiver::that_takes_all().await, Receiver::that_takes_all().await);
    let asked = lab.elsewhere().await;
    lab.publish("ORDERS", &[("a", "k"), ("b", "k")]).await;
    let mut endpoints = Vec::new();
    for receiver in [&disabled, &removed] {
        let all = NewEndpoint { from: Begin::Then, ..new(receiver, "ORDERS/*") };
        endpoints.push(lab.webhooks.create(all).await.unwrap().0);
        lab.come(receiver, 2).await;
        lab.settled(&endpoints[endpoints.len() - 1].id).await;
    }
    asked.disable(&endpoints[0].id).await.unwrap();
    // Its groups go at once; those at them begin anew, with all that is in the log.
    asked.remove(&endpoints[1].id).await.unwrap();
    lab.publish("ORDERS", &[("c", "k")]).await;
    for endpoint in &endpoints {
        lab.nobody_is_at(endpoint).await;
    }
    assert_eq!((disabled.requests().len(), removed.requests().len()), (2, 2));
}

#[tokio::test]
async fn at_most_eight_of_a_queue_are_under_way_from_all_of_them() {
    let mut lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(204).after(Duration::from_millis(50))).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.another();
    lab.another();
    eventually("three are at it", SOON, || async { (lab.members(&endpoint).await == 3).then_some(()) }).await;
    let ids: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let events: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
    lab.publish("ORDERS", &events).await;
    lab.come(&receiver, 60).await;
    lab.settled(&endpoint.id).await;
    assert!((2..=8).contains(&receiver.most_at_once()), "{}", receiver.most_at_once());
}
