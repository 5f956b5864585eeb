//! What the customer service tells the bus.

use serde_json::json;
use stage::on_both;

use crate::{shop::Shop, sign_up};

on_both!(an_account_is_announced_without_its_hash);

async fn an_account_is_announced_without_its_hash(shop: Shop) {
    let ada = sign_up(&shop, "ada@example.org", "correct horse", "Ada").await.unwrap();
    let events = shop.stage.witness("DB/*");
    let event = events.find(&format!("customers/{}", ada.id), |_| true).await;
    assert_eq!((event.queue.as_str(), event.event.as_str()), ("DB", "CREATE"));
    assert_eq!(event.source, "/services/customer");
    assert_eq!(event.owner, event.subject);
    let mut data = event.json().unwrap().clone();
    assert!(data.as_object_mut().unwrap().remove("createdAt").is_some());
    assert_eq!(data, json!({ "id": ada.id, "email": "ada@example.org", "name": "Ada", "etag": "1" }));
    for event in events.all() {
        let text = serde_json::to_string(&*event).unwrap();
        assert!(!text.contains("argon2") && !text.contains("assword"), "{text}");
    }
}
