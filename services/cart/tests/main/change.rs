//! Looking into a cart, adding and removing.

use stage::{fields, on_both};
use tonic::Code;

use crate::{add, euro, get, quantities, remove, shop::Shop};

on_both!(
    a_new_customer_has_an_empty_cart,
    what_was_added_is_there_with_name_price_and_total,
    removing_takes_some_or_all_of_a_line,
    what_is_not_in_the_cart_can_t_be_removed,
    every_bad_field_is_named,
    a_product_the_catalogue_has_not_is_refused,
    a_second_currency_is_refused,
    a_line_has_an_end,
    carts_are_their_owners_and_need_the_scope,
);

async fn a_new_customer_has_an_empty_cart(shop: Shop) {
    let cart = get(&mut shop.shopper("customers/ada")).await.unwrap();
    assert_eq!((cart.id.as_str(), cart.version, cart.etag.as_str()), ("customers/ada", 0, "0"));
    assert_eq!((cart.items.len(), cart.total, cart.updated_at), (0, None, None));
}

async fn what_was_added_is_there_with_name_price_and_total(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR"), ("cup", 750, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    add(&mut ada, "teapot", 1).await.unwrap();
    add(&mut ada, "cup", 2).await.unwrap();
    let cart = add(&mut ada, "teapot", 2).await.unwrap();
    assert_eq!(quantities(&cart), [("teapot", 3), ("cup", 2)]);
    assert_eq!((cart.version, cart.etag.as_str(), &cart.total), (3, "3", &euro(10_200)));
    assert_eq!((cart.items[1].name.as_str(), &cart.items[1].unit_price), ("The cup", &euro(750)));
    assert!(cart.items.iter().all(|item| item.available));
    assert!(cart.updated_at.is_some());
    assert_eq!(get(&mut ada).await.unwrap(), cart);
}

async fn removing_takes_some_or_all_of_a_line(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR"), ("cup", 750, "EUR"), ("bowl", 900, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    for product_id in ["teapot", "cup", "bowl"] {
        add(&mut ada, product_id, 5).await.unwrap();
    }
    assert_eq!(quantities(&remove(&mut ada, "teapot", 2).await.unwrap()), [("teapot", 3), ("cup", 5), ("bowl", 5)]);
    assert_eq!(quantities(&remove(&mut ada, "cup", 0).await.unwrap()), [("teapot", 3), ("bowl", 5)]);
    let cart = remove(&mut ada, "bowl", 99).await.unwrap();
    assert_eq!((quantities(&cart), cart.version, &cart.total), (vec![("teapot", 3)], 6, &euro(8_700)));
    assert_eq!(get(&mut ada).await.unwrap(), cart);
    let emptied = remove(&mut ada, "teapot", 0).await.unwrap();
    assert_eq!((emptied.items.len(), emptied.total, emptied.version), (0, None, 7));
}

async fn what_is_not_in_the_cart_can_t_be_removed(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR"), ("cup", 750, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    assert_eq!(remove(&mut ada, "teapot", 1).await.unwrap_err().code(), Code::NotFound);
    let cart = add(&mut ada, "teapot", 1).await.unwrap();
    assert_eq!(remove(&mut ada, "cup", 0).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(get(&mut ada).await.unwrap(), cart);
}

async fn every_bad_field_is_named(shop: Shop) {
    let mut ada = shop.shopper("customers/ada");
    for quantity in [0, -1, 1_001, i64::MAX] {
        let refused = add(&mut ada, "tea pot", quantity).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(fields(&refused), ["product_id", "quantity"]);
    }
    let refused = remove(&mut ada, "", -1).await.unwrap_err();
    assert_eq!((refused.code(), fields(&refused).len()), (Code::InvalidArgument, 2));
}

async fn a_product_the_catalogue_has_not_is_refused(shop: Shop) {
    let mut ada = shop.shopper("customers/ada");
    let refused = add(&mut ada, "unicorn", 1).await.unwrap_err();
    assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec!["product_id".to_owned()]));
    assert_eq!(get(&mut ada).await.unwrap().version, 0);
}

async fn a_second_currency_is_refused(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR"), ("mug", 1_200, "USD")]).await;
    let mut ada = shop.shopper("customers/ada");
    let cart = add(&mut ada, "teapot", 1).await.unwrap();
    let refused = add(&mut ada, "mug", 1).await.unwrap_err();
    assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec!["product_id".to_owned()]));
    assert_eq!(get(&mut ada).await.unwrap(), cart);
    remove(&mut ada, "teapot", 0).await.unwrap();
    assert_eq!(quantities(&add(&mut ada, "mug", 1).await.unwrap()), [("mug", 1)]);
}

async fn a_line_has_an_end(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    for _ in 0..10 {
        add(&mut ada, "teapot", 1_000).await.unwrap();
    }
    let refused = add(&mut ada, "teapot", 1).await.unwrap_err();
    assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec!["quantity".to_owned()]));
    assert_eq!(quantities(&get(&mut ada).await.unwrap()), [("teapot", 10_000)]);
}

async fn carts_are_their_owners_and_need_the_scope(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR")]).await;
    add(&mut shop.shopper("customers/ada"), "teapot", 1).await.unwrap();
    assert!(get(&mut shop.shopper("customers/grace")).await.unwrap().items.is_empty());
    let mut nobody = shop.anyone();
    assert_eq!(get(&mut nobody).await.unwrap_err().code(), Code::Unauthenticated);
    let mut ada = shop.caller("customers/ada", &["catalog:write"]);
    assert_eq!(get(&mut ada).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(add(&mut ada, "teapot", 1).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(remove(&mut ada, "teapot", 1).await.unwrap_err().code(), Code::PermissionDenied);
}
