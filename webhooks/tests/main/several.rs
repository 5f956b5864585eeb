//! Several processes deliver for the same endpoint.

use std::collections::BTreeSet;

use bus::Receipts;
use events::Envelope;
use testkit::eventually;
use tokio_util::sync::CancellationToken;
use webhooks::NewEndpoint;

use crate::{
    lab::{Lab, SOON, event, new},
    receiver::Receiver,
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
