//! Taking an order out of a cart.

use proto::shop::cart::v1::{Cart, ClearOrderedRequest, OrderedItem};
use stage::{fields, on_both};
use tonic::{Code, Response, Status};

use crate::{
    add, get, quantities, remove,
    shop::{Client, Shop},
};

on_both!(
    what_was_added_since_the_order_stays,
    an_order_is_taken_out_once,
    what_was_removed_since_the_order_is_not_taken_twice,
    a_cart_that_isn_t_there_stays_empty,
    only_the_order_service_clears,
    every_bad_field_is_named,
);

async fn clear(client: &mut Client, order_id: &str, version: i64, items: &[(&str, i64)]) -> Result<Cart, Status> {
    let items = items.iter().map(|&(id, quantity)| OrderedItem { product_id: id.to_owned(), quantity }).collect();
    let owner = "customers/ada".to_owned();
    let request = ClearOrderedRequest { owner, order_id: order_id.to_owned(), version, items };
    client.clear_ordered(request).await.map(Response::into_inner)
}

async fn what_was_added_since_the_order_stays(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR"), ("cup", 750, "EUR"), ("bowl", 900, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    add(&mut ada, "teapot", 2).await.unwrap();
    add(&mut ada, "cup", 1).await.unwrap();
    add(&mut ada, "cup", 3).await.unwrap();
    add(&mut ada, "bowl", 1).await.unwrap();
    let cart = clear(&mut shop.order_service(), "order-1", 2, &[("teapot", 2), ("cup", 1)]).await.unwrap();
    assert_eq!((quantities(&cart), cart.version), (vec![("cup", 3), ("bowl", 1)], 5));
    assert_eq!(get(&mut ada).await.unwrap(), cart);
}

async fn an_order_is_taken_out_once(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    add(&mut ada, "teapot", 2).await.unwrap();
    let mut order = shop.order_service();
    assert!(clear(&mut order, "order-1", 1, &[("teapot", 2)]).await.unwrap().items.is_empty());
    let refilled = add(&mut ada, "teapot", 5).await.unwrap();
    assert_eq!(clear(&mut order, "order-1", 1, &[("teapot", 2)]).await.unwrap(), refilled);
    assert_eq!(quantities(&clear(&mut order, "order-2", 3, &[("teapot", 4)]).await.unwrap()), [("teapot", 1)]);
}

async fn what_was_removed_since_the_order_is_not_taken_twice(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR"), ("cup", 750, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    add(&mut ada, "teapot", 3).await.unwrap();
    add(&mut ada, "cup", 1).await.unwrap();
    remove(&mut ada, "teapot", 2).await.unwrap();
    remove(&mut ada, "cup", 0).await.unwrap();
    let cart = clear(&mut shop.order_service(), "order-1", 2, &[("teapot", 3), ("cup", 1)]).await.unwrap();
    assert_eq!((cart.items.len(), cart.version), (0, 5));
}

async fn a_cart_that_isn_t_there_stays_empty(shop: Shop) {
    let cart = clear(&mut shop.order_service(), "order-1", 2, &[("teapot", 3)]).await.unwrap();
    assert_eq!((cart.items.len(), cart.version), (0, 0));
}

async fn only_the_order_service_clears(shop: Shop) {
    let refused = clear(&mut shop.shopper("customers/ada"), "order-1", 1, &[("teapot", 1)]).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // The gateway can't speak for a service.
    let refused = clear(&mut shop.shopper("/services/order"), "order-1", 1, &[("teapot", 1)]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = clear(&mut shop.anyone(), "order-1", 1, &[("teapot", 1)]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

async fn every_bad_field_is_named(shop: Shop) {
    let refused = clear(&mut shop.order_service(), "", 0, &[("tea pot", 0)]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["order_id", "version", "items[0].product_id", "items[0].quantity"]);
}
