//! Two nodes that share nothing but Redis, and one of them dies without a word.

use broker::Settings;
use client::{Client, Follow, Outgoing};
use futures_util::future::join_all;
use testkit::{Fault, FaultProxy};
use tokio::time::timeout;

use crate::lab::{Lab, SOON, ids};

fn note(id: u32) -> Outgoing {
    Outgoing::new("DB", "CREATE").id(id.to_string()).key("k").data(serde_json::json!({ "n": id }))
}

#[tokio::test]
async fn each_event_is_told_once_in_order_though_the_node_dies_that_told_them() {
    let redis = testkit::redis().await;
    let address = redis.url().trim_start_matches("redis://").trim_end_matches('/').parse().unwrap();
    // What the first node says to anybody goes through what can be cut off.
    let to_redis = FaultProxy::start(address, 7).await;
    let doomed = bus::redis::open(&format!("redis://{}", to_redis.address())).await.unwrap();
    let lab = Lab::start_on(doomed, Settings::default()).await;
    let bus = bus::redis::open(&redis.url()).await.unwrap();
    let (second, _shutdown) = lab.second(&bus).await;

    let client = lab.client().await;
    let elsewhere = Client::connect(&format!("ws://{second}"), lab.options_of("bob", crate::lab::ALL)).await.unwrap();
    let mut notes = client.subscribe("DB/*", Follow::default()).await.unwrap();
    for id in 0..10 {
        elsewhere.publish(note(id)).await.unwrap();
    }
    assert_eq!(ids(&mut notes, 10).await, (0..10).collect::<Vec<_>>());

    // In the middle of what it is told, and of what it publishes itself.
    let here = join_all((100..140).map(|id| client.publish(note(id))));
    let there = join_all((10..50).map(|id| elsewhere.publish(note(id))));
    let dies = async {
        let first = ids(&mut notes, 5).await;
        to_redis.set_both(Fault::Swallow);
        lab.lead_to(second);
        first
    };
    let (here, there, mut told) = timeout(SOON * 2, async { tokio::join!(here, there, dies) }).await.expect("answers");
    for receipt in here.into_iter().chain(there) {
        assert_eq!(receipt.unwrap().confirm, "stored");
    }
    told.extend(ids(&mut notes, 75).await);
    let logged = bus.read(&events::Name::new("DB").unwrap(), 0, 1, 1_000).await.unwrap().events;
    let logged: Vec<u32> = logged.iter().map(|logged| logged.envelope.id.parse().unwrap()).collect();
    assert_eq!(logged.len(), 90, "once each");
    assert_eq!(told, logged[10..], "in order, and nothing between");
}
