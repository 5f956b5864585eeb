//! A role goes away under load, and comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use e2e::{Client, Options, System};

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_product_instances_is_stopped_under_load() {
    let mut system = System::start(Options::default()).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop, answered) = (anew(&system), stop.clone(), answered.clone());
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    let answer = client.get("/products?page_size=3").await;
                    match answer.status.as_u16() {
                        200 => drop(answered.fetch_add(1, Relaxed)),
                        // The limit of anonymous readers is no failure.
                        429 => tokio::time::sleep(Duration::from_millis(5)).await,
                        _ => panic!("{answer:?}"),
                    }
                }
            })
        })
        .collect();
    let more = |than: u64| {
        let answered = answered.clone();
        testkit::eventually("readers go on", Duration::from_secs(20), move || {
            let now = answered.load(Relaxed);
            async move { (now > than + 100).then_some(now) }
        })
    };

    let before = more(0).await;
    system.change("product/1", "stop").await;
    let between = more(before).await;
    system.change("product/1", "start").await;
    more(between).await;
    testkit::eventually("the instance gets traffic again", Duration::from_secs(20), || async {
        let upstreams = system.ops().get("/upstreams").await.expect(200).json();
        let endpoints = upstreams["upstreams"]["product"].as_array().unwrap();
        assert_eq!(endpoints.len(), 2);
        endpoints.iter().all(|endpoint| endpoint["healthy"] == true).then_some(())
    })
    .await;

    stop.store(true, Relaxed);
    for reader in readers {
        reader.await.expect("no GET failed");
    }
}

#[tokio::test]
async fn an_order_placed_while_the_invoice_service_is_away_is_confirmed_once_it_is_back() {
    let mut system = System::start(Options::default()).await;
    let customer = system.customer("waiting@example.com").await;
    testkit::eventually("the cart knows the teapot", Duration::from_secs(20), || async {
        let added = customer.post("/cart/add", serde_json::json!({"productId": "teapot", "quantity": 1})).await;
        (added.status == 200).then_some(())
    })
    .await;
    system.change("invoice", "stop").await;
    let order = customer.post("/order/place", serde_json::json!({})).await.expect(201).json();
    assert_eq!(order["status"], "pending");
    system.change("invoice", "start").await;
    let order = system.settled(&customer, order["id"].as_str().unwrap()).await;
    assert_eq!(order["status"], "confirmed");
}

#[tokio::test]
async fn ctrl_c_drains_within_five_seconds() {
    let mut system = System::start(Options::default()).await;
    assert!(system.terminate(Duration::from_secs(5)).await, "{}", system.log_tail());
}

/// A client that is answered by the service, not from what is kept.
fn anew(system: &System) -> Client {
    system.anonymous().with("cache-control", "no-cache")
}
