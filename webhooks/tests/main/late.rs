//! 202: the receiver acknowledges later.

use std::time::Duration;

use testkit::eventually;
use webhooks::{AckError, Class, Late, NewEndpoint};

use crate::{
    lab::{Lab, SOON, new, seconds},
    receiver::{Receiver, Recorded, Reply},
};

fn token(request: &Recorded) -> String {
    let url = request.header("turnpike-ack-url");
    url.strip_prefix("/webhooks/ack/").unwrap().to_owned()
}

#[tokio::test]
async fn what_was_accepted_is_settled_once_it_is_acknowledged() {
    let mut lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(202)).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.come(&receiver, 1).await;
    let attempts = lab.tried(&endpoint.id, 1).await;
    assert_eq!(attempts[0].class, Class::Accepted);
    assert_eq!(lab.standing(&endpoint.id).await.lag, 1, "it isn't done");
    // At another node, after the one that sent it has gone.
    let other = lab.another();
    lab.kill().await;
    other.acknowledge(&token(&receiver.requests()[0]), Late::Done).await.unwrap();
    other.acknowledge(&token(&receiver.requests()[0]), Late::Done).await.unwrap();
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.requests().len(), 1, "it isn't sent again");
    assert_eq!(lab.webhooks.get(&endpoint.id).await.unwrap().failures, 0);
}

#[tokio::test]
async fn an_acknowledgement_may_be_faster_than_the_answer() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(202).after(Duration::from_millis(300))).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.come(&receiver, 1).await;
    lab.webhooks.acknowledge(&token(&receiver.requests()[0]), Late::Done).await.unwrap();
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn what_nobody_acknowledges_comes_again() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|before, _| Reply::status(if before == 0 { 202 } else { 204 })).await;
    let within = NewEndpoint { ack_within: Some(seconds(60)), ..new(&receiver, "ORDERS/*") };
    let (endpoint, _) = lab.webhooks.create(within).await.unwrap();
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.tried(&endpoint.id, 1).await;
    lab.let_pass(seconds(59));
    eventually("it is looked at, and waits on", SOON, || async {
        (lab.standing(&endpoint.id).await.retrying == 1).then_some(())
    })
    .await;
    lab.let_pass(seconds(2));
    let attempts = lab.tried(&endpoint.id, 2).await;
    assert_eq!(attempts[1].class, Class::NotAcknowledged);
    assert_eq!(receiver.requests().len(), 1, "it is a failure, and retried by the schedule");
    lab.let_pass(seconds(6));
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.ids(), ["a", "a"]);
    assert_eq!(lab.attempts(&endpoint.id).await[2].number, 2);
}

#[tokio::test]
async fn a_receiver_may_say_later_that_it_failed() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|before, _| Reply::status(if before == 0 { 202 } else { 204 })).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.tried(&endpoint.id, 1).await;
    let late = Late::Failed("out of stock".to_owned());
    lab.webhooks.acknowledge(&token(&receiver.requests()[0]), late).await.unwrap();
    let attempts = lab.tried(&endpoint.id, 2).await;
    assert_eq!(attempts[1].class, Class::NotAcknowledged);
    assert!(attempts[1].error.as_ref().unwrap().ends_with("out of stock"));
    lab.let_pass(seconds(6));
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test]
async fn an_acknowledgement_after_its_time_spares_the_next_attempt() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(202)).await;
    let within = NewEndpoint { ack_within: Some(seconds(60)), ..new(&receiver, "ORDERS/*") };
    let (endpoint, _) = lab.webhooks.create(within).await.unwrap();
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.tried(&endpoint.id, 1).await;
    lab.let_pass(seconds(61));
    lab.tried(&endpoint.id, 2).await;
    lab.webhooks.acknowledge(&token(&receiver.requests()[0]), Late::Done).await.unwrap();
    lab.let_pass(seconds(6));
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn an_address_is_good_for_its_endpoint_and_its_time_alone() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(202)).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.tried(&endpoint.id, 1).await;
    let good = token(&receiver.requests()[0]);
    let mut forged = good.clone().into_bytes();
    forged[30] = if forged[30] == b'A' { b'B' } else { b'A' };
    for wrong in ["x".to_owned(), String::from_utf8(forged).unwrap(), format!("{good}A")] {
        assert_eq!(lab.webhooks.acknowledge(&wrong, Late::Done).await, Err(AckError::Unknown), "{wrong}");
    }
    lab.let_pass(seconds(2 * 86_400));
    assert_eq!(lab.webhooks.acknowledge(&good, Late::Done).await, Err(AckError::Over));
    lab.webhooks.remove(&endpoint.id).await.unwrap();
    assert_eq!(lab.webhooks.acknowledge(&good, Late::Done).await, Err(AckError::Unknown));
}

#[tokio::test]
async fn where_nothing_is_acknowledged_later_202_is_done() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(202)).await;
    let (endpoint, _) =
        lab.webhooks.create(NewEndpoint { ack_within: None, ..new(&receiver, "ORDERS/*") }).await.unwrap();
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.come(&receiver, 1).await;
    lab.settled(&endpoint.id).await;
    assert!(!receiver.requests()[0].headers.contains_key("turnpike-ack-url"));
}
