//! Reading an invoice.

use tonic::Code;

use crate::stage::{Stage, fields, on_both, wish};

on_both!(only_its_customer_and_operators_see_an_invoice, before_it_is_made_it_is_not_there, a_bad_id_is_refused);

async fn only_its_customer_and_operators_see_an_invoice(stage: Stage) {
    stage.order().request(wish("1")).await.unwrap();
    let invoice = stage.caller("customers/ada", &["shop"]).made("1").await;
    assert_eq!(stage.caller("operators/1", &["operator"]).get("1").await.unwrap(), invoice);
    let other = stage.caller("customers/grace", &["shop"]).get("1").await.unwrap_err();
    assert_eq!(other.code(), Code::NotFound);
    let stranger = stage.caller("customers/ada", &["catalog:write"]).get("1").await.unwrap_err();
    assert_eq!(stranger.code(), Code::PermissionDenied);
}

async fn before_it_is_made_it_is_not_there(stage: Stage) {
    let unmade = stage.caller("customers/ada", &["shop"]).get("1").await.unwrap_err();
    assert_eq!((unmade.code(), unmade.message()), (Code::NotFound, "orders/1/invoice not found"));
}

async fn a_bad_id_is_refused(stage: Stage) {
    let ada = stage.caller("customers/ada", &["shop"]);
    for id in ["", "a b", &"1".repeat(129)] {
        assert_eq!(fields(&ada.get(id).await.unwrap_err()), ["order_id"]);
    }
}
