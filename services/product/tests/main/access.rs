//! Who may do what.

use principal::{RootSecret, Signer};
use proto::shop::product::v1::{
    CreateProductRequest, GetProductRequest, ListProductsRequest, ReleaseStockRequest, ReserveStockRequest, StockLine,
    product_service_client::ProductServiceClient,
};
use stage::{GATEWAY, ORDER, on_both, principal};
use tonic::Code;

use crate::shop::{Shop, product};

on_both!(
    anyone_reads,
    only_a_seller_writes,
    only_the_order_service_reserves_and_releases,
    a_forged_principal_is_nobody_s,
);

async fn anyone_reads(shop: Shop) {
    let created = shop.create("Teapot", 5).await;
    let mut anyone = shop.anyone();
    assert!(anyone.list_products(ListProductsRequest::default()).await.is_ok());
    assert!(anyone.get_product(GetProductRequest { id: created.id }).await.is_ok());
}

async fn only_a_seller_writes(shop: Shop) {
    let wanted = CreateProductRequest { product: Some(product("Teapot")) };
    let nobody = shop.anyone().create_product(wanted.clone()).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let customer = shop.customer().create_product(wanted.clone()).await.unwrap_err();
    assert_eq!(customer.code(), Code::PermissionDenied);
    assert!(shop.seller().create_product(wanted).await.is_ok());
}

async fn only_the_order_service_reserves_and_releases(shop: Shop) {
    let created = shop.create("Teapot", 5).await;
    let lines = vec![StockLine { product_id: created.id.clone(), quantity: 1 }];
    let reserve = ReserveStockRequest { order_id: "o-1".to_owned(), lines };
    let release = ReleaseStockRequest { order_id: "o-1".to_owned() };
    let denied = |code| assert_eq!(code, Code::PermissionDenied);
    denied(shop.seller().reserve_stock(reserve.clone()).await.unwrap_err().code());
    denied(shop.seller().release_stock(release.clone()).await.unwrap_err().code());

    // Nor may the gateway say that it is the order service.
    let mut posing = ProductServiceClient::new(shop.instance.caller(ORDER, &[]));
    let status = posing.reserve_stock(reserve.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);

    assert!(shop.order().reserve_stock(reserve).await.is_ok());
    assert!(shop.order().release_stock(release).await.is_ok());
}

async fn a_forged_principal_is_nobody_s(shop: Shop) {
    let mallory = principal("operators/1", &["catalog:write"]);
    let forged = Signer::new(GATEWAY, &RootSecret::generate()).sign(&mallory);
    let wanted = CreateProductRequest { product: Some(product("Teapot")) };
    let mut mallory = ProductServiceClient::new(shop.instance.bearer(forged));
    assert_eq!(mallory.create_product(wanted).await.unwrap_err().code(), Code::Unauthenticated);
}
