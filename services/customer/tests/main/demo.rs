//! The accounts that are there from the start.

use customer::Seed;
use stage::{BOUND, on_both};

use crate::{
    log_in,
    shop::{Shop, given, seed},
    sign_up,
};

on_both!(
    both_accounts_log_in_with_their_scopes,
    a_start_with_the_same_credentials_writes_nothing,
    a_start_with_others_replaces_them,
    an_email_that_has_another_account_stops_the_start,
    instances_that_start_at_once_agree,
);

async fn both_accounts_log_in_with_their_scopes(shop: Shop) {
    let customer = log_in(&shop, "demo@turnpike.test", "demo-password").await.unwrap();
    assert_eq!((customer.subject.as_str(), customer.scopes), ("customers/demo", vec!["shop".to_owned()]));
    let operator = log_in(&shop, "operator@turnpike.test", "operator-password").await.unwrap();
    assert_eq!(operator.subject, "customers/operator");
    let bus = ["dashboard:read", "events:read:*/*", "events:write:*/*"];
    let rooms = ["rooms:join:*/*", "rooms:write:*/*", "presence:read", "bus:admin"];
    assert_eq!(operator.scopes, [&["shop", "catalog:write", "operator"][..], &bus, &rooms].concat());
}

async fn a_start_with_the_same_credentials_writes_nothing(shop: Shop) {
    shop.start(seed()).await.unwrap();
    shop.start(Seed::default()).await.unwrap();
    let ada = sign_up(&shop, "ada@example.org", "correct horse", "Ada").await.unwrap();
    let events = shop.stage.witness("DB/*");
    events.find(&format!("customers/{}", ada.id), |_| true).await;
    // Its event is the last of the outbox.
    let all = events.all();
    let subjects: Vec<_> = all.iter().filter_map(|event| event.subject.as_deref()).collect();
    assert_eq!(subjects.iter().filter(|&&subject| subject == "customers/demo").count(), 1, "{subjects:?}");
    assert_eq!(subjects.len(), 3, "{subjects:?}");
}

async fn a_start_with_others_replaces_them(shop: Shop) {
    let changed = Seed {
        demo: Some(given("demo@turnpike.test", "another-password")),
        operator: Some(given("chief@turnpike.test", "operator-password")),
    };
    shop.start(changed).await.unwrap();
    assert!(log_in(&shop, "demo@turnpike.test", "demo-password").await.is_err());
    assert!(log_in(&shop, "demo@turnpike.test", "another-password").await.is_ok());
    assert!(log_in(&shop, "operator@turnpike.test", "operator-password").await.is_err());
    assert!(log_in(&shop, "chief@turnpike.test", "operator-password").await.is_ok());
    let update = shop.stage.witness("DB/*").find("customers/demo", |event| event.event.as_str() == "UPDATE").await;
    assert_eq!(update.json().unwrap()["etag"], "2");
}

async fn an_email_that_has_another_account_stops_the_start(shop: Shop) {
    sign_up(&shop, "ada@example.org", "correct horse", "Ada").await.unwrap();
    let refused =
        shop.start(Seed { demo: Some(given("ada@example.org", "demo-password")), ..seed() }).await.unwrap_err();
    assert!(format!("{refused:#}").contains("ada@example.org"), "{refused:#}");
    assert!(!format!("{refused:?}").contains("demo-password"));
    let refused = shop.start(Seed { demo: Some(given("demo@turnpike.test", "short")), ..seed() }).await.unwrap_err();
    assert!(format!("{refused:#}").contains("8 to 128"), "{refused:#}");
}

async fn instances_that_start_at_once_agree(shop: Shop) {
    let changed = Seed { demo: Some(given("demo@turnpike.test", "another-password")), ..seed() };
    let starts = async { tokio::join!(shop.start(changed.clone()), shop.start(changed.clone())) };
    let (one, other) = tokio::time::timeout(BOUND, starts).await.unwrap();
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert!(log_in(&shop, "demo@turnpike.test", "another-password").await.is_ok());
}
