//! 202: the receiver acknowledges later.

use std::time::Duration;

use testkit::eventually;
use webhooks::{AckError, Begin, Change, Class, Late, NewEndpoint, Reason, State};

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

#[tokio::test]
async fn to_accept_and_then_be_silent_is_to_fail() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(202)).await;
    let strict = NewEndpoint { ack_within: Some(seconds(60)), remove_after: Some(3), ..new(&receiver, "ORDERS/*") };
    let (endpoint, _) = lab.webhooks.create(strict).await.unwrap();
    lab.publish("ORDERS", &[("a", "k")]).await;
    // Longer than the schedule's next step, each time.
    for (failed, pause) in [6, 370].into_iter().enumerate() {
        lab.tried(&endpoint.id, 2 * failed + 1).await;
        lab.let_pass(seconds(61));
        lab.tried(&endpoint.id, 2 * failed + 2).await;
        assert_eq!(lab.webhooks.get(&endpoint.id).await.unwrap().failures as usize, failed + 1);
        lab.let_pass(seconds(pause));
    }
    lab.tried(&endpoint.id, 5).await;
    assert!(lab.is_enabled(&endpoint.id).await);
    lab.let_pass(seconds(61));
    eventually("it is disabled", SOON, || async {
        let state = lab.webhooks.get(&endpoint.id).await.unwrap().state;
        matches!(state, State::Disabled(disabled) if disabled.reason == Reason::RemoveAfter).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_said_later_is_what_counts() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(202)).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    let health = async || {
        let endpoint = lab.webhooks.get(&endpoint.id).await.unwrap();
        (endpoint.failures, endpoint.last_success.is_some())
    };
    for (failed, id) in ["a", "b"].into_iter().enumerate() {
        lab.publish("ORDERS", &[(id, id)]).await;
        lab.tried(&endpoint.id, 2 * failed + 1).await;
        let late = Late::Failed("out of stock\0".to_owned());
        lab.webhooks.acknowledge(&token(&receiver.requests()[failed]), late).await.unwrap();
        lab.tried(&endpoint.id, 2 * failed + 2).await;
        assert_eq!(health().await, (u32::try_from(failed).unwrap() + 1, false));
    }
    lab.publish("ORDERS", &[("c", "c")]).await;
    lab.tried(&endpoint.id, 5).await;
    assert_eq!(health().await, (2, false), "it has only been accepted");
    lab.webhooks.acknowledge(&token(&receiver.requests()[2]), Late::Done).await.unwrap();
    eventually("that is a success", SOON, || async { (health().await == (0, true)).then_some(()) }).await;
}

#[tokio::test]
async fn what_another_address_accepted_is_not_held_against_this_one() {
    let lab = Lab::start().await;
    let (former, receiver) = (Receiver::start(|_, _| Reply::status(202)).await, Receiver::that_takes_all().await);
    let strict = NewEndpoint { ack_within: Some(seconds(60)), remove_after: Some(1), ..new(&former, "ORDERS/*") };
    let (endpoint, _) = lab.webhooks.create(strict).await.unwrap();
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.tried(&endpoint.id, 1).await;
    let change = Change { url: Some(receiver.url()), ..Change::default() };
    lab.webhooks.change(&endpoint.id, change).await.unwrap();
    lab.let_pass(seconds(61));
    assert_eq!(lab.tried(&endpoint.id, 2).await[1].class, Class::NotAcknowledged);
    assert!(lab.is_enabled(&endpoint.id).await);
    lab.let_pass(seconds(6));
    lab.come(&receiver, 1).await;
}

#[tokio::test]
async fn what_waits_is_dropped_where_an_endpoint_goes_on_from_elsewhere() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, request| match request.id().as_str() {
        "accepted" => Reply::status(202),
        _ => Reply::status(500),
    })
    .await;
    let (endpoint, _) = lab.webhooks.create(NewEndpoint { ordered: true, ..new(&receiver, "ORDERS/*") }).await.unwrap();
    let then = lab.webhooks_now();
    lab.publish("ORDERS", &[("accepted", "k"), ("parked", "k"), ("failed", "l")]).await;
    lab.tried(&endpoint.id, 2).await;
    // Enabled already: it is moved all the same.
    let resumed = lab.webhooks.enable(&endpoint.id, Begin::Now, false).await.unwrap();
    assert_eq!((resumed.skipped, resumed.before.parked), (3, 1));
    let standing = lab.standing(&endpoint.id).await;
    assert_eq!((standing.lag, standing.retrying, standing.parked), (0, 0, 0), "{standing:?}");
    receiver.changes(|_, _| Reply::status(204));
    lab.let_pass(seconds(3600));
    lab.publish("ORDERS", &[("new", "k")]).await;
    lab.come(&receiver, 3).await;
    lab.settled(&endpoint.id).await;
    // What was said of the one before is not said of the one that comes again.
    let first = receiver.requests().into_iter().find(|request| request.id() == "accepted").unwrap();
    lab.webhooks.enable(&endpoint.id, Begin::Time(then), false).await.unwrap();
    lab.webhooks.acknowledge(&token(&first), Late::Done).await.unwrap();
    lab.settled(&endpoint.id).await;
    let mut ids = receiver.ids().split_off(3);
    ids.sort();
    assert_eq!(ids, ["accepted", "failed", "new", "parked"], "each is sent again");
}
