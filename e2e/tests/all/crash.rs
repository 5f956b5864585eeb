//! The whole process dies, as by kill -9, at each step of an order's way: afterwards everything adds up.

use std::time::Duration;

use e2e::{Client, Options, System};
use hyper::Method;
use serde_json::json;

const PASSWORD: &str = "correct horse battery";

/// What an order passes that ends as confirmed.
fn confirming() -> Vec<&'static str> {
    let placement = order::ABORT_POINTS.iter().copied().filter(|point| !REJECTING.contains(point));
    placement
        .filter(|point| *point != SWEEP)
        .chain(invoice::ABORT_POINTS.iter().copied())
        .chain(outbox::ABORT_POINTS)
        .collect()
}

/// What an order passes that wants more than there is.
const REJECTING: [&str; 3] = ["placement.rejected", "placement.release.sent", "placement.released"];

/// Needs a product service that stays away for minutes; the order service's own tests have it.
const SWEEP: &str = "sweep.rejected";

#[tokio::test]
async fn an_order_survives_a_kill_at_each_of_its_steps() {
    let mut system = System::start(Options::default()).await;
    let before = stock(&system).await;
    let mut killed = Vec::new();
    for point in confirming() {
        system = order_and_die(system, point, 1, &mut killed).await;
    }
    for point in REJECTING {
        system = order_and_die(system, point, 1_000, &mut killed).await;
    }

    let mut confirmed = Vec::new();
    for (email, point, quantity) in &killed {
        let customer = system.log_in(email, PASSWORD).await;
        let orders = customer.get("/orders").await.expect(200).json();
        let orders = orders["orders"].as_array().unwrap();
        assert_eq!(orders.len(), 1, "{point}: one order");
        let order = system.settled(&customer, orders[0]["id"].as_str().unwrap()).await;
        let invoice = format!("/orders/{}/invoice", order["id"].as_str().unwrap());
        if *quantity == 1 {
            assert_eq!(order["status"], "confirmed", "{point}");
            let number = invoice_number(&customer, &invoice).await;
            confirmed.push(number);
        } else {
            assert_eq!(order["status"], "rejected", "{point}");
            customer.get(&invoice).await.problem(404);
        }
    }
    assert_eq!(stock(&system).await, before - i64::try_from(confirmed.len()).unwrap(), "stock adds up");
    confirmed.sort();
    let gapless: Vec<String> = (1..=confirmed.len()).map(|number| format!("INV-{number:06}")).collect();
    assert_eq!(confirmed, gapless);
    every_event_is_logged_once(&system, killed.len(), confirmed.len()).await;
}

/// A new customer orders on a process that dies at `point`; then the process comes back, and the customer, who may have
/// got no answer, asks again under the same key.
async fn order_and_die(
    system: System,
    point: &'static str,
    quantity: u32,
    killed: &mut Vec<(String, &'static str, u32)>,
) -> System {
    let email = format!("{}@example.com", point.replace('_', "-"));
    let customer = system.customer(&email).await;
    // Ten lines' worth of a thousand is more than any product has.
    for _ in 0..if quantity > 1 { 5 } else { 1 } {
        fill(&customer, quantity).await;
    }
    let mut armed = system.kill_and_restart(Some(point)).await;
    if let Some(customer) = armed.try_log_in(&email, PASSWORD).await {
        let key = customer.with("idempotency-key", point);
        let _ = key.try_send(Method::POST, "/order/place", Some(json!({}))).await;
    }
    armed.aborted(point).await;
    let system = armed.kill_and_restart(None).await;
    let again = system.log_in(&email, PASSWORD).await.with("idempotency-key", point);
    again.post("/order/place", json!({})).await.expect(201);
    killed.push((email, point, quantity));
    system
}

async fn fill(customer: &Client, quantity: u32) {
    testkit::eventually("the cart takes a teapot", Duration::from_secs(20), || async {
        let added = customer.post("/cart/add", json!({"productId": "teapot", "quantity": quantity})).await;
        (added.status == 200).then_some(())
    })
    .await;
}

async fn stock(system: &System) -> i64 {
    let page = system.anonymous().get("/products/teapot").await.expect(200).json();
    page["stock"]["available"].as_str().unwrap().parse().unwrap()
}

async fn invoice_number(customer: &Client, path: &str) -> String {
    testkit::eventually("the invoice is made", Duration::from_secs(30), || async {
        let answer = customer.get(path).await;
        (answer.status == 200).then(|| answer.json()["number"].as_str().unwrap().to_owned())
    })
    .await
}

/// Each order left one CREATE in the log, and each invoice.
async fn every_event_is_logged_once(system: &System, orders: usize, invoices: usize) {
    testkit::eventually("everything is logged", Duration::from_secs(30), || async {
        let summaries = system.ops().get("/logger/summaries?queue=DB&event=CREATE").await.expect(200).json();
        let of = |source: &str| -> usize {
            let rows = summaries["summaries"].as_array().into_iter().flatten();
            rows.filter(|row| row["source"] == source).filter_map(|row| row["events"].as_u64()).sum::<u64>() as usize
        };
        let seen = (of("/services/order"), of("/services/invoice"));
        assert!(seen.0 <= orders && seen.1 <= invoices, "logged twice: {summaries}");
        (seen == (orders, invoices)).then_some(())
    })
    .await;
}
