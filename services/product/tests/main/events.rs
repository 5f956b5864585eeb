//! What the bus hears of it.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use proto::shop::product::v1::{DeleteProductRequest, RestockProductRequest};
use serde_json::json;
use stage::{BOUND, on_both};

use crate::shop::Shop;

on_both!(
    an_event_is_the_product_as_proto3_json,
    events_come_in_the_order_of_each_product_s_commits,
    what_a_draining_instance_acknowledged_is_there_and_announced,
);

async fn an_event_is_the_product_as_proto3_json(shop: Shop) {
    let created = shop.create("Teapot", 5).await;
    let heard = shop.stage.witness("DB/*").at_least(1).await;
    let event = &heard[0];
    assert_eq!((event.queue.as_str(), event.event.as_str()), ("DB", "CREATE"));
    assert_eq!(event.source, "/services/product");
    assert_eq!(event.subject, Some(format!("products/{}", created.id)));
    let data = event.json().unwrap();
    assert_eq!(data["id"], json!(created.id));
    assert_eq!(data["price"], json!({"minorUnits": "1999", "currency": "EUR"}));
    assert_eq!((&data["stock"], &data["description"], &data["etag"]), (&json!("5"), &json!(""), &json!("1")));
}

async fn events_come_in_the_order_of_each_product_s_commits(shop: Shop) {
    let (a, b) = (shop.create("A", 1_000).await.id, shop.create("B", 1_000).await.id);
    let orders: Vec<_> = (0..20).map(|n| format!("o-{n}")).collect();
    let lines = [(a.as_str(), 1), (b.as_str(), 1)];
    let restocks = join_all((0..10).map(|_| restock(&shop, &a)));
    let reservations = join_all(orders.iter().map(|order| shop.reserve(order, &lines)));
    let (restocked, reserved) = tokio::join!(restocks, reservations);
    assert!(restocked.iter().all(|&done| done) && reserved.iter().all(Result::is_ok));
    let delete = DeleteProductRequest { id: b.clone(), etag: String::new() };
    shop.seller().delete_product(delete).await.unwrap();

    let mut heard: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for event in shop.stage.witness("DB/*").at_least(31 + 22).await {
        let version = event.json().unwrap()["etag"].as_str().unwrap().parse().unwrap();
        heard.entry(event.subject.clone().unwrap()).or_default().push((event.event.to_string(), version));
    }
    let create = [("CREATE".to_owned(), 1)];
    let updates = |last: u64| (2..=last).map(|version| ("UPDATE".to_owned(), version));
    let of_a: Vec<_> = create.clone().into_iter().chain(updates(31)).collect();
    let of_b: Vec<_> = create.into_iter().chain(updates(21)).chain([("DELETE".to_owned(), 21)]).collect();
    assert_eq!(heard, BTreeMap::from([(format!("products/{a}"), of_a), (format!("products/{b}"), of_b)]));
}

async fn what_a_draining_instance_acknowledged_is_there_and_announced(mut shop: Shop) {
    let pot = shop.create("Teapot", 0).await.id;
    let restocks = join_all((0..50).map(|_| restock(&shop, &pot)));
    let drain = async {
        testkit::eventually("some of them are done", BOUND, || async { (shop.stock(&pot).await >= 5).then_some(()) })
            .await;
        shop.instance.begin_stop();
    };
    let (outcomes, ()) = tokio::join!(restocks, drain);
    shop.instance.stop().await;
    let done = outcomes.iter().filter(|&&done| done).count();

    // The drained instance's relay has published all of it: no other has run since.
    let heard = shop.stage.witness("DB/*").at_least(1 + done).await;
    assert_eq!(heard.len(), 1 + done);
    shop.instance = shop.start().await;
    assert_eq!(shop.stock(&pot).await, i64::try_from(done).unwrap());
}

/// Whether it was acknowledged.
async fn restock(shop: &Shop, id: &str) -> bool {
    let request = RestockProductRequest { id: id.to_owned(), quantity: 1 };
    shop.seller().restock_product(request).await.is_ok()
}
