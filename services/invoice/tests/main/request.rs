//! Asking for an invoice.

use stage::{fields, on_both};
use tonic::Code;

use crate::shop::{Shop, wish};

on_both!(only_the_order_service_asks, every_bad_field_is_named, what_does_not_add_up_is_refused);

async fn only_the_order_service_asks(shop: Shop) {
    let ada = shop.caller("customers/ada", &["shop", "operator"]);
    assert_eq!(ada.request(wish("1")).await.unwrap_err().code(), Code::PermissionDenied);
    // The gateway can't speak for a service either.
    let pretender = shop.caller("/services/order", &["shop"]);
    assert_eq!(pretender.request(wish("1")).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(shop.order().request(wish("1")).await.unwrap(), "1");
}

async fn every_bad_field_is_named(shop: Shop) {
    let mut bad = wish("");
    bad.customer = String::new();
    bad.lines[0].unit_price.as_mut().unwrap().currency = "USD".to_owned();
    bad.lines[1].quantity = 0;
    let refused = shop.order().request(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        fields(&refused),
        ["lines[0].unit_price.currency", "order_id", "customer", "lines[1].quantity", "lines[1].amount.minor_units"]
    );
}

async fn what_does_not_add_up_is_refused(shop: Shop) {
    let mut wrong = wish("1");
    wrong.total.as_mut().unwrap().minor_units = 1;
    assert_eq!(fields(&shop.order().request(wrong).await.unwrap_err()), ["total.minor_units"]);
    let mut endless = wish("1");
    for line in &mut endless.lines {
        line.unit_price.as_mut().unwrap().minor_units = i64::MAX;
        line.amount.as_mut().unwrap().minor_units = i64::MAX;
    }
    let refused = shop.order().request(endless).await.unwrap_err();
    assert_eq!(fields(&refused), ["lines[0].amount.minor_units", "total.minor_units"]);
}
