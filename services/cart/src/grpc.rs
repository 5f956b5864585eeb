//! The RPCs of shop.cart.v1: from messages to the domain and back, and which status an error becomes.

use proto::shop::{
    cart::v1::{
        self as pb,
        cart_service_server::{CartService, CartServiceServer},
    },
    money::v1 as money,
};
use serde_json::Value;
use service::status::{from_database, not_found};
use tonic::{Request, Response, Status};

use crate::{
    domain::{Cart, Item, Line, Money, Order},
    store::{Error, Store},
};

const SHOP: &str = "shop";
const ORDER_SERVICE: &str = "/services/order";

pub struct Carts {
    store: Store,
}

pub fn server(store: Store) -> CartServiceServer<Carts> {
    CartServiceServer::new(Carts { store })
}

/// What an event says of a cart.
pub fn record(cart: &Cart) -> Value {
    service::record(&message(cart))
}

#[tonic::async_trait]
impl CartService for Carts {
    async fn get_cart(&self, request: Request<pb::GetCartRequest>) -> Result<Response<pb::Cart>, Status> {
        let owner = service::require_scope(&request, SHOP)?.subject;
        let cart = self.store.get(&owner).await.map_err(from_database)?;
        Ok(Response::new(message(&cart)))
    }

    async fn add_item(&self, request: Request<pb::AddItemRequest>) -> Result<Response<pb::Cart>, Status> {
        let owner = service::require_scope(&request, SHOP)?.subject;
        let pb::AddItemRequest { product_id, quantity } = request.into_inner();
        let item = Item::to_add(product_id, quantity)?;
        let cart = self.store.add(&owner, item).await.map_err(status)?;
        Ok(Response::new(message(&cart)))
    }

    async fn remove_item(&self, request: Request<pb::RemoveItemRequest>) -> Result<Response<pb::Cart>, Status> {
        let owner = service::require_scope(&request, SHOP)?.subject;
        let pb::RemoveItemRequest { product_id, quantity } = request.into_inner();
        let item = Item::to_remove(product_id, quantity)?;
        let cart = self.store.remove(&owner, &item).await.map_err(status)?;
        Ok(Response::new(message(&cart)))
    }

    async fn clear_ordered(&self, request: Request<pb::ClearOrderedRequest>) -> Result<Response<pb::Cart>, Status> {
        service::require_service(&request, ORDER_SERVICE)?;
        let pb::ClearOrderedRequest { owner, order_id, version, items } = request.into_inner();
        let items = items.into_iter().map(|item| Item { product_id: item.product_id, quantity: item.quantity });
        let order = Order::new(owner, order_id, version, items.collect())?;
        let cart = self.store.clear(&order).await.map_err(from_database)?;
        Ok(Response::new(message(&cart)))
    }
}

fn message(cart: &Cart) -> pb::Cart {
    pb::Cart {
        id: cart.owner.clone(),
        items: cart.lines.iter().map(|line| item(cart, line)).collect(),
        total: cart.total().map(amount),
        version: cart.version,
        etag: cart.version.to_string(),
        updated_at: cart.updated_at.map(service::timestamp),
    }
}

fn item(cart: &Cart, line: &Line) -> pb::CartItem {
    pb::CartItem {
        product_id: line.product.id.clone(),
        name: line.product.name.clone(),
        unit_price: Some(amount(line.product.price.clone())),
        quantity: line.quantity,
        available: cart.can_order(line),
    }
}

fn amount(Money { minor_units, currency }: Money) -> money::Money {
    money::Money { minor_units, currency }
}

fn status(error: Error) -> Status {
    match error {
        Error::Refused(violations) => violations.into(),
        Error::NotInCart { product_id } => not_found(&format!("cart/{product_id}")),
        Error::Database(error) => from_database(error),
    }
}
