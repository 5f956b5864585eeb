//! Those who follow every queue.

use std::time::Duration;

use broker::Settings;
use serde_json::json;
use tokio::time::timeout;

use super::lab::{Lab, id};

#[tokio::test]
async fn a_queue_that_can_not_be_followed_holds_up_no_other() {
    let lab = Lab::open().await;
    lab.publish("A/SET", 0..1).await;
    lab.publish("B/SET", 1..2).await;
    // There is room for two.
    let broker = lab.broker_with(Settings { queues: 2, ..Settings::default() }).await;
    let alice = lab.alice();
    let mut ws = broker.ws(&alice).await;
    ws.subscribe("s", "*/*", "latest", 4096).await;
    assert!(ws.next().await["caught_up"].is_object());
    lab.publish("C/SET", 2..3).await;
    testkit::eventually("the third is known, and not followed", crate::site::SOON, || async {
        let refused = broker.poll(&alice, "filter=C/*&wait=1ms").await.status;
        (refused == 503).then_some(())
    })
    .await;
    // Each is told before the next is published: forty rests would take twenty seconds.
    let telling = async {
        for number in 10..50 {
            lab.publish(["A/SET", "B/SET"][number as usize % 2], number..number + 1).await;
            assert_eq!(id(&ws.event().await), number.to_string());
        }
    };
    timeout(Duration::from_secs(10), telling).await.expect("nobody rests because of the third");
    ws.send(json!({ "bye": {} })).await;
}
