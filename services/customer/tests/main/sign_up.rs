//! Signing up.

use std::sync::Arc;

use stage::{fields, on_both};
use tonic::Code;

use crate::{log_in, shop::Shop, sign_up};

on_both!(
    an_account_comes_back_whole_but_for_its_password,
    an_email_has_one_account,
    of_ten_sign_ups_at_once_one_makes_the_account,
    every_bad_field_is_named,
);

async fn an_account_comes_back_whole_but_for_its_password(shop: Shop) {
    let ada = sign_up(&shop, " Ada@Example.ORG ", "correct horse", " Ada Lovelace ").await.unwrap();
    assert_eq!((ada.email.as_str(), ada.name.as_str(), ada.etag.as_str()), ("ada@example.org", "Ada Lovelace", "1"));
    assert_eq!((ada.id.len(), ada.password_hash.as_str()), (36, ""));
    assert!(ada.created_at.is_some());
}

async fn an_email_has_one_account(shop: Shop) {
    sign_up(&shop, "ada@example.org", "correct horse", "Ada").await.unwrap();
    let refused = sign_up(&shop, "ADA@example.org", "battery staple", "Eve").await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(fields(&refused), ["email"]);
    assert_eq!(log_in(&shop, "ada@example.org", "correct horse").await.unwrap().claims["name"], "Ada");
    assert!(log_in(&shop, "ada@example.org", "battery staple").await.is_err());
}

async fn of_ten_sign_ups_at_once_one_makes_the_account(shop: Shop) {
    let shop = Arc::new(shop);
    let attempts = (0..10).map(|n| {
        let shop = shop.clone();
        tokio::spawn(async move { sign_up(&shop, "ada@example.org", "correct horse", &format!("Ada {n}")).await })
    });
    let mut codes = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        codes.push(attempt.await.unwrap().err().map_or(Code::Ok, |status| status.code()));
    }
    assert_eq!(codes.iter().filter(|&&code| code == Code::Ok).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|&&code| code == Code::AlreadyExists).count(), 9, "{codes:?}");
}

async fn every_bad_field_is_named(shop: Shop) {
    let refused = sign_up(&shop, "ada", "short", "").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["email", "password", "name"]);
}
