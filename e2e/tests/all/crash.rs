//! The whole process dies, as by kill -9, at each step of an order's way: afterwards everything adds up.

use std::time::Duration;

use e2e::{Client, Options, System};
use hyper::Method;
use serde_json::{Value, json};

/// Where the process can be made to die while an order is on its way.
fn points() -> Vec<&'static str> {
    [order::ABORT_POINTS, invoice::ABORT_POINTS, outbox::ABORT_POINTS].concat()
}

#[tokio::test]
async fn an_order_survives_a_kill_at_each_of_its_steps() {
    let mut system = System::start(Options::default()).await;
    // Known to the cart before the first kill, so that only orders are in flight below.
    let warm = system.customer("warm@example.com").await;
    fill(&warm, 1).await;
    let before = stock(&system).await;

    let mut customers = Vec::new();
    for (number, point) in points().into_iter().enumerate() {
        let email = format!("crash-{number}@example.com");
        let customer = system.customer(&email).await;
        fill(&customer, 1).await;
        // The order's whole way runs with the point armed, on a process that has just come up.
        system = system.kill_and_restart(Some(point)).await;
        let customer = system.log_in(&email, "correct horse battery").await;
        let key = customer.with("idempotency-key", &email);
        let _ = key.try_send(Method::POST, "/order/place", Some(json!({}))).await;
        system.aborted().await;
        system = system.restart_after_abort(None).await;
        customers.push(email);
    }

    let mut sold = 0;
    for email in &customers {
        let customer = system.log_in(email, "correct horse battery").await;
        // A client that got no answer asks again under the same key.
        let again = customer.with("idempotency-key", email);
        let answer = again.post("/order/place", json!({})).await;
        assert!(answer.status == 201, "{email}: {answer:?}");
        let orders = customer.get("/orders").await.expect(200).json();
        let orders = orders["orders"].as_array().unwrap();
        assert_eq!(orders.len(), 1, "{email} has one order");
        let id = orders[0]["id"].as_str().unwrap();
        let order = system.settled(&customer, id).await;
        assert_eq!(order["status"], "confirmed", "{email}");
        invoice_of(&customer, id).await;
        sold += 1;
    }
    assert_eq!(stock(&system).await, before - sold, "stock adds up");
    numbers_are_gapless(&system, &customers).await;
    every_event_is_logged_once(&system, customers.len()).await;
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

async fn invoice_of(customer: &Client, order: &str) -> Value {
    testkit::eventually("the invoice is made", Duration::from_secs(30), || async {
        let answer = customer.get(&format!("/orders/{order}/invoice")).await;
        (answer.status == 200).then(|| answer.json())
    })
    .await
}

async fn numbers_are_gapless(system: &System, customers: &[String]) {
    let mut numbers = Vec::new();
    for email in customers {
        let customer = system.log_in(email, "correct horse battery").await;
        let orders = customer.get("/orders").await.expect(200).json();
        let invoice = invoice_of(&customer, orders["orders"][0]["id"].as_str().unwrap()).await;
        numbers.push(invoice["number"].as_str().unwrap().to_owned());
    }
    numbers.sort();
    let expected: Vec<String> = (1..=customers.len()).map(|number| format!("INV-{number:06}")).collect();
    assert_eq!(numbers, expected);
}

/// Each order left one CREATE in the log, and each invoice.
async fn every_event_is_logged_once(system: &System, orders: usize) {
    testkit::eventually("everything is logged", Duration::from_secs(30), || async {
        let summaries = system.ops().get("/logger/summaries?queue=DB&event=CREATE").await.expect(200).json();
        let of = |source: &str| -> usize {
            let rows = summaries["summaries"].as_array().into_iter().flatten();
            rows.filter(|row| row["source"] == source).filter_map(|row| row["count"].as_u64()).sum::<u64>() as usize
        };
        assert!(of("/services/order") <= orders && of("/services/invoice") <= orders, "logged twice: {summaries}");
        (of("/services/order") == orders && of("/services/invoice") == orders).then_some(())
    })
    .await;
}
