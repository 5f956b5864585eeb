use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use principal::Verifier;
use proto::shop::product::v1::{self as pb, product_service_server::ProductService};
use tonic::{Request, Response, Status};

use super::{Rpc, only_order};

pub struct Product {
    pub reserve: Rpc,
    pub release: Rpc,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    stock: BTreeMap<String, i64>,
    reserved: BTreeMap<String, Vec<pb::StockLine>>,
    released: BTreeSet<String>,
}

impl Product {
    pub fn new(verifier: &Verifier) -> Self {
        Self { reserve: Rpc::new(verifier), release: Rpc::new(verifier), shelf: Mutex::default() }
    }

    pub fn restock(&self, product_id: &str, quantity: i64) {
        *self.shelf.lock().unwrap().stock.entry(product_id.to_owned()).or_default() += quantity;
    }

    pub fn stock(&self, product_id: &str) -> i64 {
        self.shelf.lock().unwrap().stock.get(product_id).copied().unwrap_or_default()
    }

    pub fn has_reserved(&self, order_id: &str) -> bool {
        self.shelf.lock().unwrap().reserved.contains_key(order_id)
    }

    pub fn has_released(&self, order_id: &str) -> bool {
        self.shelf.lock().unwrap().released.contains(order_id)
    }

    /// How many orders hold stock.
    pub fn reservations(&self) -> usize {
        self.shelf.lock().unwrap().reserved.len()
    }
}

impl Shelf {
    fn reserve(&mut self, request: pb::ReserveStockRequest) -> Result<pb::ReserveStockResponse, Status> {
        let pb::ReserveStockRequest { order_id, lines } = request;
        if self.released.contains(&order_id) {
            return Err(service::status::precondition("RELEASED", &format!("orders/{order_id}"), "was released"));
        }
        if !self.reserved.contains_key(&order_id) {
            let held = |line: &pb::StockLine| self.stock.get(&line.product_id).copied().unwrap_or_default();
            let short: Vec<_> = lines
                .iter()
                .filter(|line| held(line) < line.quantity)
                .map(|line| ("STOCK", format!("products/{}", line.product_id), "is short".to_owned()))
                .collect();
            if !short.is_empty() {
                return Err(service::status::preconditions(short));
            }
            for line in &lines {
                *self.stock.entry(line.product_id.clone()).or_default() -= line.quantity;
            }
            self.reserved.insert(order_id.clone(), lines.clone());
        }
        Ok(pb::ReserveStockResponse { order_id, lines })
    }

    fn release(&mut self, order_id: String) {
        for line in self.reserved.remove(&order_id).unwrap_or_default() {
            *self.stock.entry(line.product_id).or_default() += line.quantity;
        }
        self.released.insert(order_id);
    }
}

#[tonic::async_trait]
impl ProductService for Product {
    async fn reserve_stock(
        &self,
        request: Request<pb::ReserveStockRequest>,
    ) -> Result<Response<pb::ReserveStockResponse>, Status> {
        let reserve = |caller: String, request| {
            only_order(&caller)?;
            self.shelf.lock().unwrap().reserve(request)
        };
        self.reserve.serve(request, reserve).await
    }

    async fn release_stock(&self, request: Request<pb::ReleaseStockRequest>) -> Result<Response<()>, Status> {
        let release = |caller: String, request: pb::ReleaseStockRequest| {
            only_order(&caller)?;
            self.shelf.lock().unwrap().release(request.order_id);
            Ok(())
        };
        self.release.serve(request, release).await
    }

    async fn list_products(
        &self,
        _: Request<pb::ListProductsRequest>,
    ) -> Result<Response<pb::ListProductsResponse>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }

    async fn get_product(&self, _: Request<pb::GetProductRequest>) -> Result<Response<pb::Product>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }

    async fn create_product(&self, _: Request<pb::CreateProductRequest>) -> Result<Response<pb::Product>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }

    async fn update_product(&self, _: Request<pb::UpdateProductRequest>) -> Result<Response<pb::Product>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }

    async fn delete_product(&self, _: Request<pb::DeleteProductRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }

    async fn restock_product(&self, _: Request<pb::RestockProductRequest>) -> Result<Response<pb::Product>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }

    async fn get_stock(&self, _: Request<pb::GetStockRequest>) -> Result<Response<pb::Stock>, Status> {
        Err(Status::unimplemented("not called by orders"))
    }
}
