//! Making, reading, changing and listing products.

use prost_types::FieldMask;
use proto::shop::{
    money::v1::Money,
    product::v1::{
        CreateProductRequest, DeleteProductRequest, GetProductRequest, ListProductsRequest, ListProductsResponse,
        Product, RestockProductRequest, UpdateProductRequest,
    },
};
use stage::{fields, on_both, preconditions};
use tonic::{Code, Status};

use crate::shop::{Shop, product};

on_both!(
    a_product_lives_from_its_creation_to_its_deletion,
    a_product_that_is_not_there_is_not_found,
    every_bad_field_is_named_at_once,
    an_update_changes_what_its_mask_names,
    a_stale_etag_is_refused,
    of_two_who_read_the_same_only_one_writes,
    pages_show_every_product_once_by_name,
    a_page_token_is_good_only_for_the_list_that_gave_it,
    the_demo_s_products_are_there_once_though_two_instances_begin_at_once,
);

async fn a_product_lives_from_its_creation_to_its_deletion(shop: Shop) {
    let mut client = shop.seller();
    let created = shop.create("Teapot", 3).await;
    assert_eq!((created.name.as_str(), created.stock, created.etag.as_str()), ("Teapot", 3, "1"));
    assert!(created.created_at.is_some() && created.created_at == created.updated_at);
    let get = GetProductRequest { id: created.id.clone() };
    assert_eq!(client.get_product(get.clone()).await.unwrap().into_inner(), created);

    let restock = RestockProductRequest { id: created.id.clone(), quantity: 7 };
    let restocked = client.restock_product(restock).await.unwrap().into_inner();
    assert_eq!((restocked.stock, restocked.etag.as_str()), (10, "2"));
    assert_eq!(shop.stock(&created.id).await, 10);

    let delete = DeleteProductRequest { id: created.id, etag: restocked.etag };
    client.delete_product(delete).await.unwrap();
    assert_eq!(client.get_product(get).await.unwrap_err().code(), Code::NotFound);
}

async fn a_product_that_is_not_there_is_not_found(shop: Shop) {
    let mut client = shop.seller();
    for id in ["none", "", "a/b", "a\0b", &"x".repeat(100_000)] {
        let status = client.get_product(GetProductRequest { id: id.to_owned() }).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{id:?}");
    }
    let status =
        update(&shop, Product { id: "none".to_owned(), ..product("Teapot") }, &["name"], "").await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let restock = RestockProductRequest { id: "none".to_owned(), quantity: 1 };
    assert_eq!(client.restock_product(restock).await.unwrap_err().code(), Code::NotFound);
}

async fn every_bad_field_is_named_at_once(shop: Shop) {
    let mut client = shop.seller();
    let bad = Product {
        name: String::new(),
        description: "x".repeat(4_001),
        category: "Tea!".to_owned(),
        price: Some(Money { minor_units: -1, currency: "euro".to_owned() }),
        stock: -1,
        ..Product::default()
    };
    let refused = client.create_product(CreateProductRequest { product: Some(bad.clone()) }).await;
    let expected = [
        "product.name",
        "product.description",
        "product.category",
        "product.price.minor_units",
        "product.price.currency",
        "product.stock",
    ];
    let status = refused.unwrap_err();
    assert_eq!((status.code(), fields(&status)), (Code::InvalidArgument, expected.map(str::to_owned).to_vec()));
    let nothing = client.create_product(CreateProductRequest { product: None }).await.unwrap_err();
    assert_eq!(fields(&nothing), ["product.name", "product.category", "product.price.currency"]);

    let created = shop.create("Teapot", 1).await;
    let bad = Product { id: created.id.clone(), ..bad };
    let status = update(&shop, bad, &["name", "price.currency", "stock", "colour"], "").await.unwrap_err();
    assert_eq!(fields(&status), ["product.stock", "product.colour", "product.name", "product.price.currency"]);
    let restock = RestockProductRequest { id: created.id, quantity: 0 };
    assert_eq!(fields(&client.restock_product(restock).await.unwrap_err()), ["quantity"]);
    let list = ListProductsRequest { page_size: -1, page_token: "?".to_owned(), category: "Tea!".to_owned() };
    let status = client.list_products(list).await.unwrap_err();
    assert_eq!(fields(&status), ["category", "page_size", "page_token"]);
}

async fn an_update_changes_what_its_mask_names(shop: Shop) {
    let created = shop.create("Teapot", 4).await;
    let wanted = Product {
        id: created.id.clone(),
        description: "Holds a litre.".to_owned(),
        price: Some(Money { minor_units: 5, currency: "CHF".to_owned() }),
        ..Product::default()
    };
    let updated = update(&shop, wanted.clone(), &["price.currency"], &created.etag).await.unwrap();
    let expected = Product {
        price: Some(Money { minor_units: 1_999, currency: "CHF".to_owned() }),
        etag: "2".to_owned(),
        updated_at: updated.updated_at,
        ..created.clone()
    };
    assert_eq!(updated, expected);

    // Without a mask: what is given.
    let updated = update(&shop, wanted.clone(), &[], "").await.unwrap();
    let expected = Product {
        description: wanted.description.clone(),
        price: wanted.price.clone(),
        etag: "3".to_owned(),
        updated_at: updated.updated_at,
        ..created.clone()
    };
    assert_eq!(updated, expected);

    // All: a name that isn't given is an empty one.
    assert_eq!(fields(&update(&shop, wanted, &["*"], "").await.unwrap_err()), ["product.name", "product.category"]);
}

async fn a_stale_etag_is_refused(shop: Shop) {
    let created = shop.create("Teapot", 4).await;
    let renamed = |name: &str| Product { id: created.id.clone(), ..product(name) };
    update(&shop, renamed("Tea pot"), &["name"], &created.etag).await.unwrap();

    let expected = [("ETAG".to_owned(), format!("products/{}", created.id))];
    let status = update(&shop, renamed("Kettle"), &["name"], &created.etag).await.unwrap_err();
    assert_eq!((status.code(), preconditions(&status)), (Code::FailedPrecondition, expected.to_vec()));
    let delete = DeleteProductRequest { id: created.id.clone(), etag: "nonsense".to_owned() };
    let status = shop.seller().delete_product(delete).await.unwrap_err();
    assert_eq!(preconditions(&status), expected);

    assert_eq!(update(&shop, renamed("Kettle"), &["name"], "").await.unwrap().name, "Kettle");
}

async fn of_two_who_read_the_same_only_one_writes(shop: Shop) {
    let created = shop.create("Teapot", 4).await;
    let rename = |name: &str| update(&shop, Product { id: created.id.clone(), ..product(name) }, &["name"], "1");
    let outcomes = futures_util::future::join_all(["a", "b", "c", "d"].map(rename)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
}

async fn pages_show_every_product_once_by_name(shop: Shop) {
    for name in ["Whisk", "Cup", "Äpfel", "Cup", "Bowl"] {
        shop.create(name, 1).await;
    }
    let other = Product { category: "home".to_owned(), ..product("Lamp") };
    shop.seller().create_product(CreateProductRequest { product: Some(other) }).await.unwrap();

    let all = list(&shop, 100, "", "").await.unwrap().products;
    assert_eq!(all.len(), 6);
    for size in 1..=6 {
        assert_eq!(walk(&shop, size, "").await, all, "in pages of {size}");
    }
    let mut tea = all.clone();
    tea.retain(|product| product.category == "tea");
    assert_eq!(walk(&shop, 2, "tea").await, tea);
    let names: Vec<_> = tea.iter().map(|product| product.name.as_str()).collect();
    assert_eq!(names[..4], ["Bowl", "Cup", "Cup", "Whisk"]);
    assert!(list(&shop, 0, "", "nothing-here").await.unwrap().products.is_empty());
}

async fn a_page_token_is_good_only_for_the_list_that_gave_it(shop: Shop) {
    for name in ["a", "b", "c"] {
        shop.create(name, 1).await;
    }
    let token = list(&shop, 1, "", "tea").await.unwrap().next_page_token;
    assert_eq!(list(&shop, 1, &token, "tea").await.unwrap().products[0].name, "b");
    let mut tampered = token.clone().into_bytes();
    tampered[3] = if tampered[3] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).unwrap();
    for (token, category) in [(token.as_str(), ""), (token.as_str(), "home"), (tampered.as_str(), "tea"), ("x", "tea")]
    {
        let status = list(&shop, 1, token, category).await.unwrap_err();
        assert_eq!(fields(&status), ["page_token"], "{token} for {category:?}");
    }
}

async fn the_demo_s_products_are_there_once_though_two_instances_begin_at_once(mut shop: Shop) {
    let (mut one, mut two) = tokio::join!(shop.start_with_demo(), shop.start_with_demo());
    let products = list(&shop, 100, "", "").await.unwrap().products;
    assert_eq!(products.len(), 12);
    let teapot = products.iter().find(|product| product.id == "teapot").unwrap();
    assert!(teapot.stock >= 100 && teapot.price.as_ref().unwrap().currency == "EUR");
    assert_eq!(products.iter().map(|product| &product.category).collect::<std::collections::BTreeSet<_>>().len(), 4);

    // Neither a table with something in it nor a restart brings any back.
    let delete = DeleteProductRequest { id: "teapot".to_owned(), etag: String::new() };
    shop.seller().delete_product(delete).await.unwrap();
    one.stop().await;
    let mut again = shop.start_with_demo().await;
    assert_eq!(list(&shop, 100, "", "").await.unwrap().products.len(), 11);
    again.stop().await;
    two.stop().await;
    shop.instance.stop().await;

    let created = shop.stage.witness("DB/*").at_least(13).await;
    let created = created.iter().filter(|event| event.event.as_str() == "CREATE").count();
    assert_eq!(created, 12);
}

async fn update(shop: &Shop, product: Product, mask: &[&str], etag: &str) -> Result<Product, Status> {
    let paths = mask.iter().map(|&path| path.to_owned()).collect();
    let request =
        UpdateProductRequest { product: Some(product), update_mask: Some(FieldMask { paths }), etag: etag.to_owned() };
    Ok(shop.seller().update_product(request).await?.into_inner())
}

async fn list(shop: &Shop, size: i32, token: &str, category: &str) -> Result<ListProductsResponse, Status> {
    let (page_token, category) = (token.to_owned(), category.to_owned());
    let request = ListProductsRequest { page_size: size, page_token, category };
    Ok(shop.anyone().list_products(request).await?.into_inner())
}

async fn walk(shop: &Shop, size: i32, category: &str) -> Vec<Product> {
    let mut products = Vec::new();
    let mut token = String::new();
    loop {
        let page = list(shop, size, &token, category).await.unwrap();
        products.extend(page.products);
        token = page.next_page_token;
        if token.is_empty() {
            return products;
        }
    }
}
