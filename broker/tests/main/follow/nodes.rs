//! Two brokers that share nothing but Redis.

use std::time::Duration;

use broker::Settings;

use super::lab::{Lab, event, id};

#[tokio::test]
async fn a_client_goes_on_at_another_node_also_after_redis_was_killed() {
    let mut redis = testkit::redis().await;
    // For the keys alone: the brokers are on Redis.
    let lab = Lab::open().await;
    let connect = async || bus::redis::open(&redis.url()).await.unwrap();
    let (here, there, services) = (connect().await, connect().await, connect().await);
    let one = lab.broker_on(here, Settings::default()).await;
    let other = lab.broker_on(there, Settings::default()).await;
    let alice = lab.alice();
    let publish = async |ids: std::ops::Range<u32>| {
        for n in ids {
            let event = vec![event("DB/CREATE", &n.to_string())];
            // A publish that Redis's end cut off may be done again: its id is known.
            testkit::eventually("it is published", crate::site::SOON, || async {
                services.publish(event.clone()).await.ok()?.remove(0).ok()
            })
            .await;
        }
    };

    let mut ws = one.ws(&alice).await;
    ws.subscribe("s", "DB/*", "latest", 256).await;
    let mut stream = other.sse(&alice, "filter=*/*", None).await;
    publish(0..10).await;
    let told = ws.take("s", 10).await;
    assert!(told.iter().map(id).eq(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]));
    let streamed = stream.take(10).await;
    assert!(streamed.iter().map(|told| id(&told.data)).eq(told.iter().map(id)));

    // The node goes, and takes its clients' connections with it.
    one.stop(Duration::from_secs(1)).await;
    let cursor = told[6]["cursor"].as_str().unwrap();
    let mut ws = other.ws(&alice).await;
    ws.subscribe("s", "DB/*", cursor, 256).await;
    assert!(ws.take("s", 3).await.iter().map(id).eq(["7", "8", "9"]));
    assert!(ws.next().await["caught_up"].is_object());

    redis.kill();
    redis.restart().await;
    publish(10..15).await;
    // Both were open all the while: nothing is lost, and nothing comes twice.
    assert!(ws.take("s", 5).await.iter().map(id).eq(["10", "11", "12", "13", "14"]));
    assert!(stream.take(5).await.iter().map(|told| id(&told.data)).eq(["10", "11", "12", "13", "14"]));
}
