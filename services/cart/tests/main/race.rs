//! Changes of one cart at once.

use stage::on_both;

use crate::{add, get, quantities, shop::Shop};

on_both!(adds_at_once_all_count, the_first_adds_of_a_cart_at_once_all_count);

async fn adds_at_once(shop: &Shop, shoppers: usize, product_ids: &[&'static str]) {
    let tasks: Vec<_> = (0..shoppers)
        .flat_map(|_| product_ids)
        .map(|&product_id| {
            let mut ada = shop.shopper("customers/ada");
            tokio::spawn(async move { add(&mut ada, product_id, 1).await.unwrap().version })
        })
        .collect();
    let mut versions = Vec::new();
    for task in tasks {
        versions.push(task.await.unwrap());
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), shoppers * product_ids.len(), "two changes answered with one version: {versions:?}");
}

async fn adds_at_once_all_count(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR"), ("cup", 750, "EUR")]).await;
    let mut ada = shop.shopper("customers/ada");
    add(&mut ada, "teapot", 1).await.unwrap();
    adds_at_once(&shop, 10, &["teapot", "cup"]).await;
    let cart = get(&mut ada).await.unwrap();
    assert_eq!((quantities(&cart), cart.version), (vec![("teapot", 11), ("cup", 10)], 21));
}

async fn the_first_adds_of_a_cart_at_once_all_count(shop: Shop) {
    shop.catalogue(&[("teapot", 2_900, "EUR")]).await;
    adds_at_once(&shop, 10, &["teapot"]).await;
    let cart = get(&mut shop.shopper("customers/ada")).await.unwrap();
    assert_eq!((quantities(&cart), cart.version), (vec![("teapot", 10)], 10));
}
