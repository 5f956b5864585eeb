use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use principal::Verifier;
use proto::shop::{
    cart::v1::{
        self as pb, AddItemRequest, CartItem, ClearOrderedRequest, GetCartRequest, RemoveItemRequest,
        cart_service_server::CartService,
    },
    money::v1::Money,
};
use tonic::{Request, Response, Status};

use super::{Rpc, only_order};

pub struct Cart {
    pub get: Rpc,
    pub clear: Rpc,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    carts: BTreeMap<String, pb::Cart>,
    cleared: BTreeSet<String>,
}

impl Cart {
    pub fn new(verifier: &Verifier) -> Self {
        Self { get: Rpc::new(verifier), clear: Rpc::new(verifier), state: Mutex::default() }
    }

    /// Adds a product, at 100 EUR cents times the length of its id.
    pub fn add(&self, owner: &str, product_id: &str, quantity: i64) {
        let minor_units = i64::try_from(product_id.len()).unwrap() * 100;
        self.change(owner, |cart| {
            cart.items.push(CartItem {
                product_id: product_id.to_owned(),
                name: product_id.to_uppercase(),
                unit_price: Some(Money { minor_units, currency: "EUR".to_owned() }),
                quantity,
                available: true,
            });
        });
    }

    pub fn change(&self, owner: &str, change: impl FnOnce(&mut pb::Cart)) {
        let mut state = self.state.lock().unwrap();
        let cart = state.carts.entry(owner.to_owned()).or_default();
        change(cart);
        cart.version += 1;
    }

    /// What is in it: products and quantities.
    pub fn items(&self, owner: &str) -> Vec<(String, i64)> {
        let state = self.state.lock().unwrap();
        let items = state.carts.get(owner).map(|cart| cart.items.clone()).unwrap_or_default();
        items.into_iter().map(|item| (item.product_id, item.quantity)).collect()
    }

    pub fn is_cleared(&self, order_id: &str) -> bool {
        self.state.lock().unwrap().cleared.contains(order_id)
    }
}

#[tonic::async_trait]
impl CartService for Cart {
    async fn get_cart(&self, request: Request<GetCartRequest>) -> Result<Response<pb::Cart>, Status> {
        let answer = |caller: String, _| Ok(self.state.lock().unwrap().carts.get(&caller).cloned().unwrap_or_default());
        self.get.serve(request, answer).await
    }

    async fn clear_ordered(&self, request: Request<ClearOrderedRequest>) -> Result<Response<pb::Cart>, Status> {
        let clear = |caller: String, request: ClearOrderedRequest| {
            only_order(&caller)?;
            let mut state = self.state.lock().unwrap();
            let first = state.cleared.insert(request.order_id);
            let cart = state.carts.entry(request.owner).or_default();
            if first {
                for ordered in request.items {
                    for item in cart.items.iter_mut().filter(|item| item.product_id == ordered.product_id) {
                        item.quantity -= ordered.quantity;
                    }
                }
                cart.items.retain(|item| item.quantity > 0);
                cart.version += 1;
            }
            Ok(cart.clone())
        };
        self.clear.serve(request, clear).await
    }

    async fn add_item(&self, _: Request<AddItemRequest>) -> Result<Response<pb::Cart>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }

    async fn remove_item(&self, _: Request<RemoveItemRequest>) -> Result<Response<pb::Cart>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }
}
