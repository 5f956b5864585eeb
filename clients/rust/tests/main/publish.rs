//! Publishing across everything that breaks: what is confirmed is recorded, once.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use client::{Client, Error, Outgoing, Receipt};
use futures_util::future::join_all;
use testkit::{Fault, Way, eventually};

use crate::lab::{Lab, SOON};

fn note(id: u32) -> Outgoing {
    Outgoing::new("NOTES", "WRITTEN").id(id.to_string()).key("k").data(serde_json::json!({ "n": id }))
}

async fn publish(client: &Client, id: u32) -> Result<Receipt, Error> {
    tokio::time::timeout(SOON * 2, client.publish(note(id))).await.expect("an answer")
}

#[tokio::test]
async fn an_event_is_confirmed_and_a_repeat_is_none() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    let receipt = publish(&client, 1).await.unwrap();
    assert_eq!((receipt.id.as_str(), receipt.confirm.as_str(), receipt.duplicate), ("1", "stored", false));
    let again = publish(&client, 1).await.unwrap();
    assert_eq!((again.cursor, again.duplicate), (receipt.cursor, true));
    let logged = lab.log("NOTES").await;
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0].envelope.source, "/clients/alice");
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_said() {
    let lab = Lab::start().await;
    let client = lab.client_of(lab.options_of("bob", &["events:write:NOTES/*"])).await;
    for (event, code) in [
        (Outgoing::new("notes", "WRITTEN"), "invalid"),
        (Outgoing::new("ORDERS", "PLACED"), "forbidden"),
        (Outgoing::new("NOTES", "WRITTEN").data("x".repeat(300 * 1024)), "too-large"),
        (Outgoing::new("NOTES", "WRITTEN").data("x".repeat(2 << 20)), "too-large"),
        (Outgoing::new("NOTES", "WRITTEN").confirm("perhaps"), "invalid"),
    ] {
        assert_eq!(client.publish(event).await.unwrap_err().code(), code);
    }
    assert_eq!(publish(&client, 1).await.unwrap().id, "1");
}

#[tokio::test]
async fn answers_that_get_lost_are_asked_for_again_and_nothing_is_recorded_twice() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    for round in 0..8 {
        // Written and not answered: the answer is what is cut off.
        lab.proxy.set(Way::Back, Fault::CutAfter(40 + 310 * u64::from(round)));
        let events = (0..20).map(|n| publish(&client, round * 20 + n));
        let before = lab.proxy.connections();
        let healed = async {
            eventually("it was cut off, and came again", SOON, async || {
                (lab.proxy.connections() > before).then_some(())
            })
            .await;
            if round % 2 == 0 {
                lab.kill().await;
            }
            lab.proxy.set(Way::Back, Fault::None);
        };
        let (receipts, ()) = tokio::join!(join_all(events), healed);
        for receipt in receipts {
            receipt.unwrap();
        }
    }
    let logged = lab.log("NOTES").await;
    let ids: Vec<u32> = logged.iter().map(|logged| logged.envelope.id.parse().unwrap()).collect();
    assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), (0..160).collect::<BTreeSet<_>>());
    assert_eq!(ids, (0..160).collect::<Vec<_>>(), "one after the other, once each");
}

#[tokio::test]
async fn what_is_not_confirmed_in_time_may_be_tried_again_under_its_id() {
    let lab = Lab::start().await;
    let client = lab.client_of(lab.options().publish_within(Duration::from_millis(300))).await;
    lab.proxy.set(Way::Back, Fault::Swallow);
    assert_eq!(client.publish(note(1)).await.unwrap_err().code(), "timeout");
    lab.proxy.set(Way::Back, Fault::None);
    lab.proxy.cut();
    let patient = lab.client().await;
    publish(&patient, 1).await.unwrap();
    assert_eq!(lab.log("NOTES").await.len(), 1);
}

#[tokio::test]
async fn more_than_may_wait_is_refused_at_once() {
    let lab = Lab::start().await;
    let client = lab.client().await;
    lab.proxy.refuse(true).await;
    lab.proxy.cut();
    let refused_at_once = Cell::new(0);
    let many = join_all((0..1_100).map(async |id| {
        let answer = publish(&client, id).await;
        refused_at_once.update(|refused| refused + u32::from(answer.is_err()));
        answer
    }));
    let healed = async {
        eventually("those are refused that are too many", SOON, async || (refused_at_once.get() == 76).then_some(()))
            .await;
        lab.proxy.refuse(false).await;
    };
    let (answers, ()) = tokio::join!(many, healed);
    let refused =
        answers.iter().filter(|answer| answer.as_ref().is_err_and(|error| error.code() == "too-many")).count();
    assert_eq!((refused, answers.len() - refused), (1_100 - 1_024, 1_024));
    assert_eq!(lab.log("NOTES").await.len(), 1_024);
}
