//! Who may do what.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use principal::{Principal, RootSecret, Signer};
use proto::shop::product::v1::{
    CreateProductRequest, GetProductRequest, ListProductsRequest, ReleaseStockRequest, ReserveStockRequest, StockLine,
};
use tonic::{Code, Request};

use crate::shop::{Shop, product, signed};

on_both_engines![
    anyone_reads,
    only_a_seller_writes,
    only_the_order_service_reserves_and_releases,
    a_forged_principal_is_nobody_s,
];

async fn anyone_reads(shop: Shop) {
    let created = shop.create("Teapot", 5).await;
    let mut client = shop.client.clone();
    assert!(client.list_products(ListProductsRequest::default()).await.is_ok());
    assert!(client.get_product(GetProductRequest { id: created.id }).await.is_ok());
}

async fn only_a_seller_writes(shop: Shop) {
    let mut client = shop.client.clone();
    let wanted = CreateProductRequest { product: Some(product("Teapot")) };
    let nobody = client.create_product(Request::new(wanted.clone())).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let customer = client.create_product(shop.customer(wanted.clone())).await.unwrap_err();
    assert_eq!(customer.code(), Code::PermissionDenied);
    assert!(client.create_product(shop.seller(wanted)).await.is_ok());
}

async fn only_the_order_service_reserves_and_releases(shop: Shop) {
    let created = shop.create("Teapot", 5).await;
    let mut client = shop.client.clone();
    let lines = vec![StockLine { product_id: created.id.clone(), quantity: 1 }];
    let reserve = ReserveStockRequest { order_id: "o-1".to_owned(), lines };
    let release = ReleaseStockRequest { order_id: "o-1".to_owned() };
    let denied = |code| assert_eq!(code, Code::PermissionDenied);
    denied(client.reserve_stock(shop.seller(reserve.clone())).await.unwrap_err().code());
    denied(client.release_stock(shop.seller(release.clone())).await.unwrap_err().code());

    // Nor may the gateway say that it is the order service.
    let order = Principal { subject: "/services/order".to_owned(), ..Principal::default() };
    let posing = Signer::new("gateway", &shop.config.root).sign(&order);
    let status = client.reserve_stock(signed(reserve.clone(), &posing)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);

    assert!(client.reserve_stock(shop.order(reserve)).await.is_ok());
    assert!(client.release_stock(shop.order(release)).await.is_ok());
}

async fn a_forged_principal_is_nobody_s(shop: Shop) {
    let scopes = vec!["catalog:write".to_owned()];
    let mallory = Principal { subject: "operators/1".to_owned(), scopes, ..Principal::default() };
    let forged = Signer::new("gateway", &RootSecret::generate()).sign(&mallory);
    let wanted = CreateProductRequest { product: Some(product("Teapot")) };
    let status = shop.client.clone().create_product(signed(wanted, &forged)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}
