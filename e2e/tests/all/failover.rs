//! The Redis of the whole system is replaced by its replica, as Sentinels have it.

use std::time::Duration;

use e2e::{Client, Options, System};
use serde_json::json;
use testkit::{RedisOptions, RedisSentinels, eventually};

/// Until the Sentinels have agreed, and everything has found the new primary, on a slow machine.
const SOON: Duration = Duration::from_secs(90);

#[tokio::test]
async fn orders_are_placed_before_and_after_a_failover() {
    let mut primary = testkit::redis().await;
    let _replica = primary.replica(RedisOptions::default()).await;
    let sentinels = RedisSentinels::watching(&primary, 1).await;
    let arguments = vec!["--redis".to_owned(), sentinels.url()];
    let system = System::start(Options { arguments, ..Options::default() }).await;
    let demo = system.demo();
    let first = order(&system, &demo).await;
    primary.kill();
    let second = order(&system, &demo).await;
    assert_ne!(first, second);
    let ops = system.ops();
    eventually("the logger has both", SOON, || async {
        let summaries = ops.get("/logger/summaries?queue=DB").await.expect(200).json();
        let rows = summaries["summaries"].as_array().into_iter().flatten();
        let of = rows.filter(|row| row["event"] == "CREATE" && row["source"] == "/services/order");
        let orders: u64 = of.filter_map(|row| row["events"].as_u64()).sum();
        assert!(orders <= 2, "an order was logged twice: {summaries}");
        (orders == 2).then_some(())
    })
    .await;
    eventually("the gateway has found it", SOON, || async {
        (ops.get("/shared").await.expect(200).json()["redis"]["reachable"] == true).then_some(())
    })
    .await;
}

/// Places an order, and waits until it is confirmed; its id.
async fn order(system: &System, client: &Client) -> String {
    eventually("the cart is filled", SOON, || async {
        let added = client.post("/cart/add", json!({"productId": "teapot", "quantity": 1})).await;
        (added.status == 200).then_some(())
    })
    .await;
    let placed = eventually("an order is placed", SOON, || async {
        let placed = client.post("/order/place", json!({})).await;
        (placed.status == 201).then(|| placed.json())
    })
    .await;
    let id = placed["id"].as_str().unwrap().to_owned();
    assert_eq!(system.settled(client, &id).await["status"], "confirmed");
    id
}
