//! Reading an invoice.

use stage::{fields, on_both};
use tonic::Code;

use crate::shop::{Shop, wish};

on_both!(only_its_customer_sees_an_invoice, before_it_is_made_it_is_not_there, a_bad_id_is_refused);

async fn only_its_customer_sees_an_invoice(shop: Shop) {
    shop.order().request(wish("1")).await.unwrap();
    shop.caller("customers/ada", &["shop"]).made("1").await;
    for other in [shop.caller("customers/grace", &["shop"]), shop.caller("operators/1", &["shop", "operator"])] {
        assert_eq!(other.get("1").await.unwrap_err().code(), Code::NotFound);
    }
    let stranger = shop.caller("customers/ada", &["catalog:write"]).get("1").await.unwrap_err();
    assert_eq!(stranger.code(), Code::PermissionDenied);
}

async fn before_it_is_made_it_is_not_there(shop: Shop) {
    let unmade = shop.caller("customers/ada", &["shop"]).get("1").await.unwrap_err();
    assert_eq!((unmade.code(), unmade.message()), (Code::NotFound, "orders/1/invoice not found"));
}

async fn a_bad_id_is_refused(shop: Shop) {
    let ada = shop.caller("customers/ada", &["shop"]);
    for id in ["", "a b", &"1".repeat(129)] {
        assert_eq!(fields(&ada.get(id).await.unwrap_err()), ["order_id"]);
    }
}
