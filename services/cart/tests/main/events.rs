//! What the cart service tells the bus.

use serde_json::json;
use stage::on_both;

use crate::{add, remove, shop::Shop};

on_both!(a_cart_is_announced_with_its_record, what_changes_nothing_is_not_announced);

async fn a_cart_is_announced_with_its_record(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    add(&mut ada, "teapot", 2).await.unwrap();
    remove(&mut ada, "teapot", 0).await.unwrap();
    add(&mut shop.shopper("keys/7"), "teapot", 1).await.unwrap();
    let events = shop.stage.witness("DB/*");
    let created = events.find("carts/ada", |event| event.event.as_str() == "CREATE").await;
    assert_eq!((created.source.as_str(), created.owner.as_deref()), ("/services/cart", Some("customers/ada")));
    let mut data = created.json().unwrap().clone();
    assert!(data.as_object_mut().unwrap().remove("updatedAt").is_some());
    let line = json!({
        "productId": "teapot", "name": "The teapot", "quantity": "2", "available": true,
        "unitPrice": { "minorUnits": "2900", "currency": "EUR" },
    });
    let total = json!({ "minorUnits": "5800", "currency": "EUR" });
    assert_eq!(data, json!({ "id": "customers/ada", "items": [line], "total": total, "version": "1", "etag": "1" }));
    let updated = events.find("carts/ada", |event| event.event.as_str() == "UPDATE").await;
    assert_eq!(updated.json().unwrap()["items"], json!([]));
    assert_eq!(updated.json().unwrap()["version"], "2");
    events.find("carts/keys:7", |event| event.owner.as_deref() == Some("keys/7")).await;
}

async fn what_changes_nothing_is_not_announced(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    assert!(add(&mut ada, "unicorn", 2).await.is_err());
    assert!(remove(&mut ada, "teapot", 1).await.is_err());
    add(&mut ada, "teapot", 1).await.unwrap();
    let events = shop.stage.witness("DB/*");
    // The outbox keeps the order of a cart's changes, so an earlier event would have come first.
    events.find("carts/ada", |_| true).await;
    let carts =
        events.all().into_iter().filter(|event| event.subject.as_deref() == Some("carts/ada")).collect::<Vec<_>>();
    assert_eq!(carts.iter().map(|event| event.event.as_str()).collect::<Vec<_>>(), ["CREATE"]);
}
