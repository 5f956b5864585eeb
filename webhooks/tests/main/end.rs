//! When nothing is sent to an endpoint any more, and how that is told.

use std::time::Duration;

use testkit::eventually;
use webhooks::{Begin, Change, Class, NewEndpoint, Reason, State};

use crate::{
    lab::{Lab, SOON, hours, new, seconds},
    receiver::{Receiver, Reply},
};

fn reason(state: &State) -> Option<Reason> {
    match state {
        State::Enabled => None,
        State::Disabled(disabled) => Some(disabled.reason),
    }
}

async fn is_disabled(lab: &Lab, id: &str) -> Reason {
    eventually("it is disabled", SOON, || async { reason(&lab.webhooks.get(id).await.unwrap().state) }).await
}

#[tokio::test]
async fn gone_is_the_end_at_once_and_others_are_told() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(410)).await;
    let watcher = Receiver::that_takes_all().await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*,SYS/WEBHOOK_DISABLED").await;
    let (watching, _) = lab.endpoint(&watcher, "SYS/WEBHOOK_DISABLED").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    assert_eq!(is_disabled(&lab, &endpoint.id).await, Reason::Gone);
    assert_eq!(lab.attempts(&endpoint.id).await[0].class, Class::Gone);
    lab.come(&watcher, 1).await;
    lab.settled(&watching.id).await;
    let alert = watcher.requests()[0].event();
    assert_eq!(
        (&alert["queue"], &alert["event"], &alert["data"]["webhook"], &alert["data"]["reason"]),
        (&"SYS".into(), &"WEBHOOK_DISABLED".into(), &endpoint.id.clone().into(), &"gone".into())
    );
    assert_eq!(alert["data"]["host"], "127.0.0.1", "not the whole address, which may hold a secret");

    lab.publish("ORDERS", &[("b", "k")]).await;
    receiver.changes(|_, _| Reply::status(204));
    let resumed = lab.webhooks.enable(&endpoint.id, Begin::Then, false).await.unwrap();
    assert_eq!(resumed.count, 3, "both orders, and the alert");
    lab.settled(&endpoint.id).await;
    let mut came = receiver.ids();
    came.sort();
    assert_eq!(came, ["a", "a", "b"], "an alert never goes through the endpoint that it is about");
    assert_eq!(lab.told("WEBHOOK_DISABLED").await.len(), 1);
}

#[tokio::test]
async fn it_may_be_disabled_after_a_number_of_failures() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(500)).await;
    let strict = NewEndpoint { remove_after: Some(2), ..new(&receiver, "ORDERS/*") };
    let (endpoint, _) = lab.webhooks.create(strict).await.unwrap();
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.tried(&endpoint.id, 1).await;
    assert!(lab.webhooks.get(&endpoint.id).await.unwrap().is_enabled());
    lab.let_pass(seconds(6));
    assert_eq!(is_disabled(&lab, &endpoint.id).await, Reason::RemoveAfter);
    eventually("it is told", SOON, || async { lab.told("WEBHOOK_DISABLED").await.pop() }).await;
}

#[tokio::test]
async fn five_days_of_nothing_but_failures_are_the_end() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(500)).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    for hour in 0..119 {
        // A new event every so often: each has failed once or twice by the end.
        if hour % 10 == 0 {
            let before = lab.attempts(&endpoint.id).await.len();
            lab.publish("ORDERS", &[(&format!("e{hour}"), "k")]).await;
            lab.tried(&endpoint.id, before + 1).await;
        }
        lab.let_pass(hours(1));
    }
    assert!(lab.webhooks.get(&endpoint.id).await.unwrap().is_enabled());
    lab.let_pass(hours(2));
    lab.publish("ORDERS", &[("last", "k")]).await;
    assert_eq!(is_disabled(&lab, &endpoint.id).await, Reason::Failing);
}

#[tokio::test]
async fn one_success_in_between_begins_the_count_anew() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, request| Reply::status(if request.id() == "good" { 204 } else { 500 })).await;
    let strict = NewEndpoint { remove_after: Some(3), ..new(&receiver, "ORDERS/*") };
    let (endpoint, _) = lab.webhooks.create(strict).await.unwrap();
    for (tried, id) in (1..).zip(["b1", "b2", "good", "b3", "b4"]) {
        lab.publish("ORDERS", &[(id, id)]).await;
        lab.tried(&endpoint.id, tried).await;
    }
    let standing = lab.webhooks.get(&endpoint.id).await.unwrap();
    assert!(standing.is_enabled());
    assert_eq!(standing.failures, 2);
}

#[tokio::test]
async fn after_five_failures_it_is_spared_and_asked_again_with_one_request() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(500)).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let events: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
    lab.publish("ORDERS", &events).await;
    let tried = lab.tried(&endpoint.id, 5).await.len();
    assert!((5..=12).contains(&tried), "what was under way and no more: {tried}");
    // It rests, however many wait.
    lab.let_pass(seconds(20));
    lab.publish("ORDERS", &[("more", "k")]).await;
    assert_eq!(lab.tried(&endpoint.id, tried).await.len(), tried);
    lab.let_pass(seconds(15));
    let probed = lab.tried(&endpoint.id, tried + 1).await.len();
    assert_eq!(probed, tried + 1, "one request decides");
    receiver.changes(|_, _| Reply::status(204));
    lab.let_pass(seconds(61));
    eventually("the others go as well", SOON, || async { (receiver.requests().len() > 80).then_some(()) }).await;
    // What has failed twice waits for its own time.
    lab.let_pass(seconds(400));
    lab.settled(&endpoint.id).await;
    let came: std::collections::BTreeSet<String> = receiver.ids().into_iter().collect();
    assert_eq!(came.len(), 101, "every one has come");
}

#[tokio::test]
async fn what_a_former_address_answers_late_says_nothing_of_this_one() {
    for status in [410, 500] {
        let lab = Lab::start().await;
        let former = Receiver::start(move |_, _| Reply::status(status).after(Duration::from_millis(400))).await;
        let receiver = Receiver::that_takes_all().await;
        let strict = NewEndpoint { remove_after: Some(1), ..new(&former, "ORDERS/*") };
        let (endpoint, _) = lab.webhooks.create(strict).await.unwrap();
        lab.publish("ORDERS", &[("a", "k")]).await;
        lab.come(&former, 1).await;
        let change = Change { url: Some(receiver.url()), ..Change::default() };
        lab.webhooks.change(&endpoint.id, change).await.unwrap();
        let attempt = lab.tried(&endpoint.id, 1).await.remove(0);
        assert_eq!(attempt.status, Some(status), "it is told among the attempts");
        lab.let_pass(seconds(6));
        lab.come(&receiver, 1).await;
        lab.settled(&endpoint.id).await;
        let endpoint = lab.webhooks.get(&endpoint.id).await.unwrap();
        assert!(endpoint.is_enabled() && endpoint.failures == 0, "{endpoint:?}");
        assert!(lab.told("WEBHOOK_DISABLED").await.is_empty());
    }
}
