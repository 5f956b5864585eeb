//! F18: an endpoint is down for six hours, is disabled, and enabled again: nothing is lost, order is kept, and what arrives is
//! what was signed, says the official library.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;
use time::OffsetDateTime;
use webhooks::{Begin, NewEndpoint};

use crate::{
    lab::{Lab, SOON, hours, new, seconds},
    receiver::{Receiver, Recorded, Reply},
};

/// How many of these requests the official library for Python believes.
fn verified(secret: &str, requests: &[Recorded]) -> usize {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/webhook-python/bin/python");
    assert!(python.exists(), "standardwebhooks for Python is missing: deploy/install-test-tools installs it");
    let mut verifier = Command::new(python)
        .args(["-c", include_str!("verify.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = verifier.stdin.take().unwrap();
    for request in requests {
        let headers: BTreeMap<&str, &str> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        writeln!(input, "{}", json!({ "secret": secret, "headers": headers, "body": request.body })).unwrap();
    }
    drop(input);
    let output = verifier.wait_with_output().unwrap();
    assert!(output.status.success(), "the library refuses a request");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

async fn an_endpoint_is_down_for_six_hours(lab: Lab, ordered: bool) {
    const KEYS: usize = 5;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, secret) = lab.webhooks.create(NewEndpoint { ordered, ..new(&receiver, "ORDERS/*") }).await.unwrap();
    let publish = async |numbers: std::ops::Range<usize>| {
        for n in numbers {
            lab.publish("ORDERS", &[(&format!("e{n:03}"), &format!("key{}", n % KEYS))]).await;
        }
    };
    publish(0..10).await;
    lab.settled(&endpoint.id).await;

    receiver.changes(|_, _| Reply::status(503));
    for hour in 0..6 {
        publish(10 + hour * 20..30 + hour * 20).await;
        for _ in 0..6 {
            lab.let_pass(seconds(600));
            lab.quiet(&endpoint.id).await;
        }
    }
    assert!(lab.webhooks.disable(&endpoint.id).await.unwrap());
    lab.nobody_is_at(&endpoint).await;
    publish(130..150).await;
    lab.let_pass(hours(1));

    let before = receiver.requests().len();
    receiver.changes(|_, _| Reply::status(204));
    let rehearsed = lab.webhooks.enable(&endpoint.id, Begin::Then, true).await.unwrap();
    assert_eq!((rehearsed.count, rehearsed.skipped, rehearsed.before.lost), (140, 0, 0));
    assert_eq!(receiver.requests().len(), before, "a rehearsal sends nothing");
    lab.webhooks.enable(&endpoint.id, Begin::Then, false).await.unwrap();
    lab.settled(&endpoint.id).await;

    let requests = receiver.requests();
    let arrived: Vec<&Recorded> = requests[..10].iter().chain(&requests[before..]).collect();
    let mut ids: Vec<String> = arrived.iter().map(|request| request.id()).collect();
    if ordered {
        for key in 0..KEYS {
            let of_key: Vec<&String> =
                ids.iter().filter(|id| id[1..].parse::<usize>().unwrap() % KEYS == key).collect();
            assert!(of_key.is_sorted(), "a key's events come in their order: {of_key:?}");
        }
    }
    ids.sort();
    assert_eq!(ids, (0..150).map(|n| format!("e{n:03}")).collect::<Vec<_>>(), "each once");
    assert_eq!(lab.standing(&endpoint.id).await.dead, 0);
    assert_eq!(verified(&secret, &requests[before..]), 140);
}

/// By the end it is now: a signature is believed for five minutes.
fn seven_hours_ago() -> OffsetDateTime {
    OffsetDateTime::now_utc() - hours(7)
}

#[tokio::test]
async fn nothing_is_lost_and_each_keys_order_is_kept() {
    an_endpoint_is_down_for_six_hours(Lab::at(seven_hours_ago(), |options| options).await, true).await;
}

#[tokio::test]
async fn nothing_is_lost_on_a_bus_that_processes_share() {
    an_endpoint_is_down_for_six_hours(Lab::on_redis(seven_hours_ago()).await, true).await;
}

#[tokio::test]
async fn nothing_is_lost_where_order_does_not_matter() {
    an_endpoint_is_down_for_six_hours(Lab::at(seven_hours_ago(), |options| options).await, false).await;
}

#[tokio::test]
async fn the_library_believes_either_secret_after_a_rotation() {
    let lab = Lab::start().await;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, first) = lab.endpoint(&receiver, "ORDERS/*").await;
    let (second, until) = lab.webhooks.rotate(&endpoint.id).await.unwrap();
    assert_eq!(until, lab.webhooks.get(&endpoint.id).await.unwrap().former_until.unwrap());
    // Those who deliver have noticed by then.
    testkit::eventually("requests are signed twice", SOON, || async {
        let attempt = lab.webhooks.test(&endpoint.id).await.unwrap();
        (attempt.status == Some(204)).then_some(())
    })
    .await;
    let requests = receiver.requests();
    assert_eq!((verified(&first, &requests), verified(&second, &requests)), (1, 1));
    assert_eq!(requests[0].event()["event"], "WEBHOOK_TEST");
    assert_eq!(lab.attempts(&endpoint.id).await[0].number, 0);
    lab.let_pass(hours(24));
    lab.webhooks.test(&endpoint.id).await.unwrap();
    assert!(!receiver.requests()[1].header("webhook-signature").contains(' '), "the former is over");
}

#[tokio::test]
async fn what_comes_while_the_database_is_away_waits_in_the_log() {
    let (lab, proxy) = Lab::on_postgres_far_away().await;
    let receiver = Receiver::that_takes_all().await;
    let (endpoint, _) = lab.endpoint(&receiver, "ORDERS/*").await;
    lab.publish("ORDERS", &[("first", "k")]).await;
    lab.come(&receiver, 1).await;
    lab.settled(&endpoint.id).await;
    proxy.refuse(true).await;
    proxy.cut();
    let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let events: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
    lab.publish("ORDERS", &events).await;
    let put_off = async || {
        let groups = lab.bus.groups().await.unwrap();
        groups.into_iter().find(|group| group.name == endpoint.group()).unwrap().retrying
    };
    testkit::eventually("some are put off", SOON, || async { (put_off().await > 0).then_some(()) }).await;
    proxy.refuse(false).await;
    testkit::eventually("all come", SOON, || async {
        lab.let_pass(seconds(1));
        (receiver.requests().len() > 100).then_some(())
    })
    .await;
    lab.settled(&endpoint.id).await;
    assert_eq!(receiver.requests().len(), 101, "each once");
    assert!(lab.attempts(&endpoint.id).await.iter().all(|attempt| attempt.number == 1), "nobody pays for it");
}
