//! Reading reviews.

use stage::{fields, on_both};
use tonic::Code;

use crate::{create, list, shop::Shop};

on_both!(
    anyone_reads_the_newest_first_page_by_page,
    a_page_token_belongs_to_its_list,
    every_bad_field_is_named,
    the_demo_s_products_have_reviews_and_a_second_start_adds_none,
);

async fn write(shop: &Shop, product_id: &str, authors: &[&str]) {
    for author in authors {
        let mut client = shop.customer(author);
        create(&mut client, product_id, 5, author).await.unwrap();
    }
}

async fn anyone_reads_the_newest_first_page_by_page(shop: Shop) {
    write(&shop, "bowl", &["a", "b", "c", "d", "e"]).await;
    write(&shop, "plate", &["a"]).await;
    let mut anyone = shop.anyone();
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let page = list(&mut anyone, "bowl", 2, &token).await.unwrap();
        pages.push(page.reviews.into_iter().map(|review| review.text).collect::<Vec<_>>());
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        // What is written meanwhile is newer: it doesn't shift the pages.
        write(&shop, "bowl", &[&format!("late-{}", pages.len())]).await;
    }
    assert_eq!(pages, [vec!["e", "d"], vec!["c", "b"], vec!["a"]]);
}

async fn a_page_token_belongs_to_its_list(shop: Shop) {
    write(&shop, "bowl", &["a", "b"]).await;
    let mut anyone = shop.anyone();
    let token = list(&mut anyone, "bowl", 1, "").await.unwrap().next_page_token;
    assert!(!token.contains("bowl"));
    for (product_id, token) in
        [("plate", token.as_str()), ("bowl", "MTIz"), ("bowl", "not base64!"), ("bowl", &token[1..])]
    {
        let refused = list(&mut anyone, product_id, 1, token).await.unwrap_err();
        assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec!["page_token".to_owned()]));
    }
}

async fn every_bad_field_is_named(shop: Shop) {
    let refused = list(&mut shop.anyone(), "bowl plate", -1, "x").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(fields(&refused), ["product_id", "page_size", "page_token"]);
}

async fn the_demo_s_products_have_reviews_and_a_second_start_adds_none(shop: Shop) {
    let mut anyone = shop.anyone();
    let seeded = list(&mut anyone, "teapot", 0, "").await.unwrap().reviews;
    assert_eq!(
        seeded.iter().map(|review| review.author.as_str()).collect::<Vec<_>>(),
        ["customers/demo", "customers/ada", "customers/grace"]
    );
    shop.start().await;
    assert_eq!(list(&mut anyone, "teapot", 0, "").await.unwrap().reviews, seeded);
    assert_eq!(list(&mut anyone, "espresso-cup", 0, "").await.unwrap().reviews.len(), 2);
}
