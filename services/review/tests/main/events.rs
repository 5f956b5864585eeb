//! What the review service tells the bus.

use serde_json::json;
use stage::on_both;

use crate::{create, shop::Shop};

on_both!(a_review_is_announced_with_its_record, a_refused_review_is_not_announced);

async fn a_review_is_announced_with_its_record(shop: Shop) {
    let mut ada = shop.customer("ada");
    let review = create(&mut ada, "bowl", 4, "Holds soup.").await.unwrap();
    let event = shop.stage.witness("DB/*").find(&format!("reviews/{}", review.id), |_| true).await;
    assert_eq!((event.queue.as_str(), event.event.as_str()), ("DB", "CREATE"));
    assert_eq!((event.source.as_str(), event.owner.as_deref()), ("/services/review", Some("customers/ada")));
    let mut data = event.json().unwrap().clone();
    assert!(data.as_object_mut().unwrap().remove("createdAt").is_some());
    assert_eq!(
        data,
        json!({
            "id": review.id, "productId": "bowl", "author": "customers/ada", "rating": 4, "text": "Holds soup.", "etag": "1",
        })
    );
}

async fn a_refused_review_is_not_announced(shop: Shop) {
    let mut ada = shop.customer("ada");
    create(&mut ada, "bowl", 4, "Holds soup.").await.unwrap();
    assert!(create(&mut ada, "bowl", 5, "Holds stew as well.").await.is_err());
    let last = create(&mut ada, "plate", 5, "Flat.").await.unwrap();
    let events = shop.stage.witness("DB/*");
    events.find(&format!("reviews/{}", last.id), |_| true).await;
    let bowls = events.all().into_iter().filter(|event| event.json().unwrap()["productId"] == "bowl");
    assert_eq!(bowls.count(), 1);
}
