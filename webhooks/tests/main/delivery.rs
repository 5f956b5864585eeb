//! A request, and what its answer means.

use std::time::Duration;

use time::OffsetDateTime;
use webhooks::{Attempts, Class, NewEndpoint, Options, Signature};

use crate::{
    lab::{Lab, SOON, new, seconds},
    receiver::{Receiver, Reply},
};

/// By the schedule, which begins at once; 20 % of jitter are passed over in full.
const SCHEDULE: [u64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

async fn an_event_arrives(lab: Lab) {
    let receiver = Receiver::start(|_, _| Reply::status(200).body("thank you")).await;
    let (endpoint, secret) = lab.endpoint(&receiver, "ORDERS/*").await;
    assert!(secret.starts_with("whsec_") && endpoint.public_key.is_none());
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.come(&receiver, 1).await;
    let request = receiver.requests().remove(0);
    assert_eq!((request.path.as_str(), request.id().as_str()), ("/hook", "a"));
    assert!(request.header("content-type").starts_with("application/cloudevents+json"));
    assert_eq!(request.header("webhook-timestamp"), lab.clock_seconds());
    let event = request.event();
    assert_eq!(
        (&event["specversion"], &event["queue"], &event["data"]["id"]),
        (&"1.0".into(), &"ORDERS".into(), &"a".into())
    );
    lab.settled(&endpoint.id).await;
    let attempt = lab.tried(&endpoint.id, 1).await.remove(0);
    assert_eq!((attempt.class, attempt.status, attempt.number), (Class::Delivered, Some(200), 1));
    assert_eq!((attempt.event.as_str(), attempt.address.as_str()), ("a", "ORDERS/PLACED"));
    assert_eq!((attempt.answer.as_slice(), attempt.error), (&b"thank you"[..], None));
    assert!(lab.webhooks.get(&endpoint.id).await.unwrap().last_success.is_some());
}

#[tokio::test]
async fn an_event_arrives_signed_and_is_written_down() {
    an_event_arrives(Lab::start().await).await;
}

#[tokio::test]
async fn endpoints_may_be_kept_in_postgresql() {
    an_event_arrives(Lab::on_postgres().await).await;
}

#[tokio::test]
async fn a_failed_event_comes_again_by_the_schedule_with_the_same_id() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(500).body("no")).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    for (failed, scheduled) in SCHEDULE.iter().enumerate() {
        let attempt = lab.tried(&endpoint.id, failed + 1).await.pop().unwrap();
        assert_eq!((attempt.class, attempt.number as usize), (Class::ServerError, failed + 1));
        assert_eq!(lab.standing(&endpoint.id).await.retrying, 1);
        lab.let_pass(seconds(*scheduled).mul_f64(0.8) - Duration::from_millis(1));
        lab.webhooks.standings(&[]).await.unwrap();
        assert_eq!(lab.standing(&endpoint.id).await.retrying, 1, "not before 80 % of {scheduled} s");
        lab.let_pass(seconds(*scheduled).mul_f64(0.4) + Duration::from_millis(2));
    }
    lab.tried(&endpoint.id, 10).await;
    testkit::eventually("it is given up", SOON, || async {
        (lab.standing(&endpoint.id).await.dead == 1).then_some(())
    })
    .await;
    assert!(receiver.ids().iter().all(|id| id == "a"));
    assert_eq!(receiver.requests().len(), 10);
}

#[tokio::test]
async fn a_receiver_says_when_to_come_again() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|before, _| match before {
        0 => Reply::status(429).with("retry-after", "7200"),
        1 => Reply::status(503).with("retry-after", "9999999"),
        _ => Reply::status(204),
    })
    .await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    for (attempts, wait) in [(1, 7200), (2, 86_400)] {
        assert_eq!(lab.tried(&endpoint.id, attempts).await.pop().unwrap().class, Class::Postponed);
        lab.let_pass(seconds(wait - 1));
        assert_eq!(lab.standing(&endpoint.id).await.retrying, 1, "not before {wait} s");
        lab.let_pass(seconds(1));
    }
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.requests().len(), 3);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_leads_nowhere() {
    let lab = Lab::start().await;
    let elsewhere = Receiver::that_takes_all().await;
    let to = elsewhere.url();
    let receiver = Receiver::start(move |_, _| Reply::status(307).with("location", &to)).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    let attempt = lab.tried(&endpoint.id, 1).await.remove(0);
    assert_eq!((attempt.class, attempt.status), (Class::Redirected, Some(307)));
    assert!(attempt.error.unwrap().contains("aren't followed"));
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn an_answer_is_read_to_4_kib_and_waited_for_to_its_timeout() {
    let options = |options| Options { timeout: Duration::from_millis(700), ..options };
    let lab = Lab::at(OffsetDateTime::now_utc(), options).await;
    let receiver = Receiver::start(|before, _| match before {
        0 => Reply::status(500).body(&"x".repeat(1 << 20)),
        1 => Reply::status(204).after(seconds(60)),
        _ => Reply::status(204),
    })
    .await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k")]).await;
    let attempt = lab.tried(&endpoint.id, 1).await.remove(0);
    assert_eq!((attempt.class, attempt.answer.len()), (Class::ServerError, 4096));
    lab.let_pass(seconds(6));
    let attempt = lab.tried(&endpoint.id, 2).await.remove(1);
    assert_eq!((attempt.class, attempt.status), (Class::Timeout, None));
    assert!(attempt.took >= Duration::from_millis(700), "{:?}", attempt.took);
}

#[tokio::test]
async fn nobody_there_is_a_failure() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let nobody =
        NewEndpoint { url: format!("http://127.0.0.1:{}/", testkit::free_port()), ..new(&receiver, "ORDERS/*") };
    let (endpoint, _) = lab.webhooks.create(nobody).await.unwrap();
    lab.publish("ORDERS", &[("a", "k")]).await;
    assert_eq!(lab.tried(&endpoint.id, 1).await.remove(0).class, Class::Unreachable);
}

#[tokio::test]
async fn at_most_eight_are_under_way_at_once() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, _| Reply::status(204).after(Duration::from_millis(50))).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*,INVOICES/*").await;
    let ids: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let events: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
    lab.publish("ORDERS", &events).await;
    lab.publish("INVOICES", &events).await;
    lab.come(&receiver, 40).await;
    lab.settled(&endpoint.id).await;
    assert!((2..=8).contains(&receiver.most_at_once()), "{}", receiver.most_at_once());
}

#[tokio::test]
async fn only_what_the_filter_takes_is_sent_from_now_on() {
    let lab = Lab::start().await;
    lab.publish("ORDERS", &[("before", "k")]).await;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*[data.id^=y],*/CANCELLED").await;
    lab.publish("ORDERS", &[("n1", "k"), ("y1", "k")]).await;
    lab.publish("NOTES", &[("y2", "k")]).await;
    lab.publish("ORDERS", &[("y3", "k")]).await;
    lab.come(&receiver, 2).await;
    lab.settled(&endpoint.id).await;
    let mut ids = receiver.ids();
    ids.sort();
    assert_eq!(ids, ["y1", "y3"]);
}

#[tokio::test]
async fn an_asymmetric_signature_is_offered() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, shown) =
        lab.webhooks.create(NewEndpoint { signature: Signature::V1a, ..new(&receiver, "ORDERS/*") }).await.unwrap();
    assert!(shown.starts_with("whpk_"));
    assert_eq!(endpoint.public_key, Some(shown));
    lab.publish("ORDERS", &[("a", "k")]).await;
    lab.come(&receiver, 1).await;
    assert!(receiver.requests()[0].header("webhook-signature").starts_with("v1a,"));
}

#[tokio::test]
async fn attempts_are_found_by_event_and_by_failure_page_by_page() {
    let lab = Lab::start().await;
    let receiver = Receiver::start(|_, request| Reply::status(if request.id() == "bad" { 400 } else { 204 })).await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("a", "k"), ("bad", "k"), ("b", "k"), ("c", "k")]).await;
    lab.tried(&endpoint.id, 4).await;
    let found = async |which: Attempts, limit| lab.webhooks.attempts(&endpoint.id, &which, limit).await.unwrap();
    let failed = found(Attempts { failed: true, ..Attempts::default() }, 10).await;
    assert_eq!((failed.len(), failed[0].1.event.as_str(), failed[0].1.status), (1, "bad", Some(400)));
    let of = found(Attempts { event: Some("b".to_owned()), ..Attempts::default() }, 10).await;
    assert_eq!((of.len(), of[0].1.event.as_str()), (1, "b"));
    let first = found(Attempts::default(), 3).await;
    let rest = found(Attempts { before: first.last().map(|(at, _)| *at), ..Attempts::default() }, 3).await;
    assert_eq!((first.len(), rest.len()), (3, 1));
    assert!(lab.webhooks.attempts("wh_nobody", &Attempts::default(), 1).await.is_err());
}
