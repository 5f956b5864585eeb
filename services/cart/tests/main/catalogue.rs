//! The copy of the catalogue, as a shopper sees it. What an odd or late event does is tested beside the handler.

use stage::{BOUND, fields, on_both};
use testkit::eventually;
use tonic::Code;

use crate::{add, euro, get, shop::Shop};

on_both!(a_new_price_reaches_the_cart, a_dropped_product_stays_in_the_cart_and_can_t_be_added);

async fn a_new_price_reaches_the_cart(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    add(&mut ada, "teapot", 2).await.unwrap();
    shop.product("UPDATE", "teapot", 2_500, "EUR", 2).await;
    let cart = eventually("the new price", BOUND, || {
        let mut ada = ada.clone();
        async move { Some(get(&mut ada).await.unwrap()).filter(|cart| cart.total == euro(5_000)) }
    })
    .await;
    assert_eq!((&cart.items[0].unit_price, cart.version), (&euro(2_500), 1));
}

async fn a_dropped_product_stays_in_the_cart_and_can_t_be_added(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    add(&mut ada, "teapot", 2).await.unwrap();
    shop.product("DELETE", "teapot", 2_900, "EUR", 1).await;
    let cart = eventually("the product is dropped", BOUND, || {
        let mut ada = ada.clone();
        async move { Some(get(&mut ada).await.unwrap()).filter(|cart| !cart.items[0].available) }
    })
    .await;
    assert_eq!((cart.items[0].name.as_str(), cart.items[0].quantity), ("The teapot", 2));
    let refused = add(&mut ada, "teapot", 1).await.unwrap_err();
    assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec!["product_id".to_owned()]));
}
