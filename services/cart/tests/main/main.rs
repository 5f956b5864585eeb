//! The cart service over real gRPC, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod catalogue;
mod change;
mod clear;
mod events;
mod race;
mod shop;

use proto::shop::{
    cart::v1::{AddItemRequest, Cart, GetCartRequest, RemoveItemRequest},
    money::v1::Money,
};
use tonic::{Response, Status};

use crate::shop::Client;

async fn get(client: &mut Client) -> Result<Cart, Status> {
    client.get_cart(GetCartRequest {}).await.map(Response::into_inner)
}

async fn add(client: &mut Client, product_id: &str, quantity: i64) -> Result<Cart, Status> {
    let request = AddItemRequest { product_id: product_id.to_owned(), quantity };
    client.add_item(request).await.map(Response::into_inner)
}

async fn remove(client: &mut Client, product_id: &str, quantity: i64) -> Result<Cart, Status> {
    let request = RemoveItemRequest { product_id: product_id.to_owned(), quantity };
    client.remove_item(request).await.map(Response::into_inner)
}

fn quantities(cart: &Cart) -> Vec<(&str, i64)> {
    cart.items.iter().map(|item| (item.product_id.as_str(), item.quantity)).collect()
}

fn euro(minor_units: i64) -> Option<Money> {
    Some(Money { minor_units, currency: "EUR".to_owned() })
}
