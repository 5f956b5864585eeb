//! Reading one's orders.

use stage::on_both;
use tonic::Code;

use crate::shop::Shop;

on_both!(orders_are_listed_newest_first_page_by_page, the_orders_of_others_are_not_there, every_bad_field_is_named,);

async fn orders_are_listed_newest_first_page_by_page(shop: Shop) {
    let instance = shop.start().await;
    let ada = shop.customer("ada", &instance);
    let mut placed = Vec::new();
    for _ in 0..5 {
        shop.cart.add("customers/ada", "tea", 1);
        placed.push(ada.place().await.unwrap().id);
    }
    shop.cart.add("customers/grace", "tea", 1);
    shop.customer("grace", &instance).place().await.unwrap();
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let page = ada.list(2, &token).await.unwrap();
        assert!(page.orders.len() <= 2);
        listed.extend(page.orders.into_iter().map(|order| order.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    placed.reverse();
    assert_eq!(listed, placed);
}

async fn the_orders_of_others_are_not_there(shop: Shop) {
    let instance = shop.start().await;
    let ada = shop.customer("ada", &instance);
    shop.cart.add("customers/ada", "tea", 1);
    shop.cart.add("customers/ada", "cup", 1);
    let order = ada.place().await.unwrap();
    let grace = shop.customer("grace", &instance);
    for id in [order.id.as_str(), "01920000-0000-7000-8000-000000000000"] {
        assert_eq!(grace.get(id).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(grace.history(id).await.unwrap_err().code(), Code::NotFound);
    }
    assert!(grace.list(0, "").await.unwrap().orders.is_empty());
    assert_eq!(ada.get(&order.id).await.unwrap().lines.len(), 2);
    // A page token of hers is none of his.
    shop.cart.add("customers/ada", "pot", 1);
    ada.place().await.unwrap();
    let token = ada.list(1, "").await.unwrap().next_page_token;
    assert_eq!(grace.list(1, &token).await.unwrap_err().code(), Code::InvalidArgument);
}

async fn every_bad_field_is_named(shop: Shop) {
    let ada = shop.customer("ada", &shop.start().await);
    let refused = ada.list(-1, "no token").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("page_size") && refused.message().contains("page_token"), "{refused}");
    for id in ["", "a b", &"1".repeat(65)] {
        assert_eq!(ada.get(id).await.unwrap_err().code(), Code::InvalidArgument, "{id}");
    }
}
