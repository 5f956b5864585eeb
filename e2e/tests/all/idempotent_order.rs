//! One Idempotency-Key is one order, however often it is sent, to whichever gateway, whatever dies meanwhile.

use std::{collections::BTreeSet, time::Duration};

use e2e::{Client, FleetOptions, System};
use hyper::Method;
use serde_json::json;
use testkit::eventually;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

/// What a dead gateway was at is in flight for the route's 15 s and 5 s more.
const SOON: Duration = Duration::from_secs(90);
/// A principal has a hundred requests a minute.
const PAUSE: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread")]
async fn five_requests_with_one_key_make_one_order() {
    let (redis, postgres) = tokio::join!(testkit::redis(), testkit::postgres());
    let mut system = System::start_fleet(&FleetOptions::new(&redis.url(), &postgres.url())).await;
    let first = system.customer("once@example.com").await;
    let gateways = [first.clone(), first.at(system.env("DEMO_URL_2"))];

    // At once on both: one is done, who comes meanwhile waits its turn, and all have its answer in the end.
    fill_the_cart(&gateways[1]).await;
    let one = five_times(&gateways, "at once").await;
    confirmed(&gateways[1], &one).await;

    // The gateway that is at it is killed. The order service stands still meanwhile, so that it is at it for certain.
    fill_the_cart(&gateways[1]).await;
    let ops = system.fleet().ops("gateway/1");
    let before = firsts(&ops).await;
    system.fleet().pause("order");
    let doomed = gateways[0].with("idempotency-key", "killed");
    let doomed = tokio::spawn(async move { doomed.try_send(Method::POST, "/order/place", Some(json!({}))).await });
    eventually("the first is under way", SOON, || async { (firsts(&ops).await > before).then_some(()) }).await;
    gateways[1].with("idempotency-key", "killed").post("/order/place", json!({})).await.problem(409);
    system.fleet().kill("gateway/1");
    system.fleet().resume("order");
    assert!(doomed.await.unwrap().is_err(), "who asked the dead gateway has no answer");
    let (other, ()) = tokio::join!(five_times(&gateways, "killed"), system.fleet().restart("gateway/1"));
    assert_ne!(one, other, "another key is another order");
    confirmed(&gateways[1], &other).await;

    // On both gateways, also on the one that was born since.
    for gateway in &gateways {
        let again = gateway.with("idempotency-key", "killed").post("/order/place", json!({})).await.expect(201);
        assert_eq!((again.header("idempotency-replayed"), again.json()["id"].as_str()), (Some("true"), Some(&*other)));
        let listed = gateway.get("/orders").await.expect(200).json();
        let ids = listed["orders"].as_array().unwrap().iter().map(|order| order["id"].as_str().unwrap());
        assert_eq!(ids.collect::<BTreeSet<_>>(), BTreeSet::from([&*one, &*other]), "{listed}");
    }
}

async fn fill_the_cart(customer: &Client) {
    customer.post("/cart/add", json!({"productId": "teapot", "quantity": 1})).await.expect(200);
}

/// Places the order five times at once; the id of the one that comes of it.
async fn five_times(gateways: &[Client; 2], key: &'static str) -> String {
    let mut asking = JoinSet::new();
    for number in 0..5 {
        let gateways = gateways.clone();
        asking.spawn(async move { placed(&gateways, number, key).await });
    }
    let orders: BTreeSet<_> = asking.join_all().await.into_iter().collect();
    assert_eq!(orders.len(), 1, "{orders:?}");
    orders.into_iter().next().unwrap()
}

/// Asks, in turn on both gateways, until the order is placed; its id.
async fn placed(gateways: &[Client; 2], number: usize, key: &'static str) -> String {
    let end = Instant::now() + SOON;
    for turn in number.. {
        let gateway = gateways[turn % 2].with("idempotency-key", key);
        match gateway.try_send(Method::POST, "/order/place", Some(json!({}))).await {
            Ok(answer) if answer.status == 201 => return answer.json()["id"].as_str().unwrap().to_owned(),
            Ok(answer) if [409, 429, 503].contains(&answer.status.as_u16()) => {}
            Ok(answer) => panic!("{answer:?}"),
            // The gateway is dead.
            Err(_) => {}
        }
        assert!(Instant::now() < end, "not placed in {SOON:?}");
        sleep(PAUSE).await;
    }
    unreachable!("the loop has no end of its own")
}

async fn confirmed(customer: &Client, order: &str) {
    let end = Instant::now() + SOON;
    loop {
        let answer = customer.get(&format!("/orders/{order}")).await;
        if answer.status == 200 && answer.json()["status"] == "confirmed" {
            return;
        }
        assert!(Instant::now() < end, "{answer:?}");
        sleep(Duration::from_secs(1)).await;
    }
}

/// How many requests a gateway was the first to see with their key.
async fn firsts(ops: &Client) -> u64 {
    let metrics = ops.get("/metrics").await.expect(200);
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let line = text
        .lines()
        .find(|line| line.starts_with("turnpike_gateway_idempotency_total{") && line.contains("outcome=\"first\""));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}
