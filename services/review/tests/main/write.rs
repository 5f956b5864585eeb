//! Writing a review.

use std::collections::BTreeSet;

use stage::{fields, on_both};
use tonic::Code;

use crate::{create, list, shop::Shop};

on_both!(
    a_review_comes_back_whole,
    a_second_review_of_a_product_is_refused,
    of_ten_at_once_one_is_written,
    every_bad_field_is_named,
    only_customers_write,
);

async fn a_review_comes_back_whole(shop: Shop) {
    let mut ada = shop.customer("ada");
    let review = create(&mut ada, "bowl", 4, "  Holds soup.\n").await.unwrap();
    assert_eq!((review.product_id.as_str(), review.author.as_str()), ("bowl", "customers/ada"));
    assert_eq!((review.rating, review.text.as_str(), review.etag.as_str()), (4, "Holds soup.", "1"));
    assert_eq!(review.id.len(), 36);
    assert!(review.created_at.is_some());
    assert_eq!(list(&mut ada, "bowl", 0, "").await.unwrap().reviews, [review]);
}

async fn a_second_review_of_a_product_is_refused(shop: Shop) {
    let mut ada = shop.customer("ada");
    create(&mut ada, "bowl", 4, "Holds soup.").await.unwrap();
    let refused = create(&mut ada, "bowl", 5, "Holds stew as well.").await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(fields(&refused), ["product_id"]);
    create(&mut ada, "plate", 5, "Another product is another matter.").await.unwrap();
    let mut grace = shop.customer("grace");
    create(&mut grace, "bowl", 5, "So is another author.").await.unwrap();
    assert_eq!(list(&mut ada, "bowl", 0, "").await.unwrap().reviews.len(), 2);
}

async fn of_ten_at_once_one_is_written(shop: Shop) {
    let ada = shop.customer("ada");
    let attempts = (0..10).map(|_| {
        let mut ada = ada.clone();
        tokio::spawn(async move { create(&mut ada, "bowl", 4, "Holds soup.").await })
    });
    let mut codes = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        codes.push(attempt.await.unwrap().err().map_or(Code::Ok, |status| status.code()));
    }
    assert_eq!(codes.iter().filter(|&&code| code == Code::Ok).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|&&code| code == Code::AlreadyExists).count(), 9, "{codes:?}");
}

async fn every_bad_field_is_named(shop: Shop) {
    let mut ada = shop.customer("ada");
    let refused = create(&mut ada, "bowl/../plate", 6, "\0").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let named: BTreeSet<String> = fields(&refused).into_iter().collect();
    assert_eq!(named.iter().collect::<Vec<_>>(), ["product_id", "rating", "text"]);
}

async fn only_customers_write(shop: Shop) {
    let refused = create(&mut shop.anyone(), "bowl", 4, "Holds soup.").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut machine = shop.caller("keys/7");
    let refused = create(&mut machine, "bowl", 4, "Holds soup.").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(list(&mut machine, "bowl", 0, "").await.unwrap().reviews.is_empty());
}
