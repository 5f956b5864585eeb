//! The RPCs of shop.product.v1: from messages to the domain and back, and which status an error becomes.

mod mask;

use pb::product_service_server::{ProductService, ProductServiceServer};
use proto::shop::{money::v1 as money, product::v1 as pb};
use serde_json::Value;
use service::{PageToken, Violations, require_scope, require_service, status, timestamp};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    domain::{
        Details, Line, Money, Position, Product, check_category, check_lines, check_order_id, check_quantity,
        check_stock, is_id, subject,
    },
    store::{Error, NewProduct, Store},
};

const WRITE: &str = "catalog:write";
const ORDER: &str = "/services/order";

pub struct Products {
    store: Store,
    pages: PageToken,
}

pub fn server(store: Store, pages: PageToken) -> ProductServiceServer<Products> {
    ProductServiceServer::new(Products { store, pages })
}

/// What an event says of a product.
pub fn record(product: &Product) -> Value {
    service::record(&message(product.clone()))
}

#[tonic::async_trait]
impl ProductService for Products {
    async fn list_products(
        &self,
        request: Request<pb::ListProductsRequest>,
    ) -> Result<Response<pb::ListProductsResponse>, Status> {
        let pb::ListProductsRequest { page_size, page_token, category } = request.into_inner();
        let mut violations = Violations::default();
        let category = (!category.is_empty()).then_some(category);
        if let Some(category) = &category {
            check_category("category", category, &mut violations);
        }
        let list = format!("products?category={}", category.as_deref().unwrap_or_default());
        let size = violations.take(PageToken::size(page_size)).unwrap_or_default();
        let position = violations.take(self.pages.decode(&list, &page_token)).flatten();
        violations.check()?;
        let after = match position {
            None => Position::default(),
            Some(text) => {
                Position::parse(&text).ok_or_else(|| status::internal("a page token of ours is unreadable"))?
            }
        };
        let page = self.store.list(category.as_deref(), &after, size).await.map_err(status::from_database)?;
        Ok(Response::new(pb::ListProductsResponse {
            products: page.items.into_iter().map(message).collect(),
            next_page_token: page.next.map(|position| self.pages.encode(&list, &position)).unwrap_or_default(),
        }))
    }

    async fn get_product(&self, request: Request<pb::GetProductRequest>) -> Result<Response<pb::Product>, Status> {
        let id = known(request.into_inner().id)?;
        self.store.get(&id).await.map(answer).map_err(refusal)
    }

    async fn create_product(
        &self,
        request: Request<pb::CreateProductRequest>,
    ) -> Result<Response<pb::Product>, Status> {
        require_scope(&request, WRITE)?;
        let pb::Product { name, description, category, price, stock, .. } =
            request.into_inner().product.unwrap_or_default();
        let mut violations = Violations::default();
        let price = price.unwrap_or_default();
        let price = Money { minor_units: price.minor_units, currency: price.currency };
        let details = Details { name, description, category, price };
        details.check(&mut violations);
        check_stock(stock, &mut violations);
        violations.check()?;
        let new = NewProduct { id: Uuid::now_v7().to_string(), details, stock };
        self.store.create(new).await.map(answer).map_err(refusal)
    }

    async fn update_product(
        &self,
        request: Request<pb::UpdateProductRequest>,
    ) -> Result<Response<pb::Product>, Status> {
        require_scope(&request, WRITE)?;
        let pb::UpdateProductRequest { product, update_mask, etag } = request.into_inner();
        let product = product.unwrap_or_default();
        let id = known(product.id.clone())?;
        let mut violations = Violations::default();
        let patch = mask::patch(product, &update_mask.unwrap_or_default().paths, &mut violations);
        patch.check(&mut violations);
        violations.check()?;
        self.store.update(&id, some(&etag), patch).await.map(answer).map_err(refusal)
    }

    async fn delete_product(&self, request: Request<pb::DeleteProductRequest>) -> Result<Response<()>, Status> {
        require_scope(&request, WRITE)?;
        let pb::DeleteProductRequest { id, etag } = request.into_inner();
        let id = known(id)?;
        self.store.delete(&id, some(&etag)).await.map(Response::new).map_err(refusal)
    }

    async fn restock_product(
        &self,
        request: Request<pb::RestockProductRequest>,
    ) -> Result<Response<pb::Product>, Status> {
        require_scope(&request, WRITE)?;
        let pb::RestockProductRequest { id, quantity } = request.into_inner();
        let id = known(id)?;
        let mut violations = Violations::default();
        check_quantity("quantity", quantity, &mut violations);
        violations.check()?;
        self.store.restock(&id, quantity).await.map(answer).map_err(refusal)
    }

    async fn get_stock(&self, request: Request<pb::GetStockRequest>) -> Result<Response<pb::Stock>, Status> {
        let id = known(request.into_inner().product_id)?;
        let product = self.store.get(&id).await.map_err(refusal)?;
        Ok(Response::new(pb::Stock { product_id: product.id, available: product.stock }))
    }

    async fn reserve_stock(
        &self,
        request: Request<pb::ReserveStockRequest>,
    ) -> Result<Response<pb::ReserveStockResponse>, Status> {
        require_service(&request, ORDER)?;
        let pb::ReserveStockRequest { order_id, lines } = request.into_inner();
        let lines = lines.into_iter().map(|pb::StockLine { product_id, quantity }| Line { product_id, quantity });
        let mut violations = Violations::default();
        check_order_id(&order_id, &mut violations);
        let lines = check_lines(lines.collect(), &mut violations);
        violations.check()?;
        let lines = self.store.reserve(&order_id, lines).await.map_err(refusal)?;
        let lines = lines.into_iter().map(|Line { product_id, quantity }| pb::StockLine { product_id, quantity });
        Ok(Response::new(pb::ReserveStockResponse { order_id, lines: lines.collect() }))
    }

    async fn release_stock(&self, request: Request<pb::ReleaseStockRequest>) -> Result<Response<()>, Status> {
        require_service(&request, ORDER)?;
        let order_id = request.into_inner().order_id;
        let mut violations = Violations::default();
        check_order_id(&order_id, &mut violations);
        violations.check()?;
        self.store.release(&order_id).await.map(Response::new).map_err(refusal)
    }
}

fn answer(product: Product) -> Response<pb::Product> {
    Response::new(message(product))
}

fn message(product: Product) -> pb::Product {
    let etag = product.etag();
    let Product { id, details, stock, created_at, updated_at, .. } = product;
    let Details { name, description, category, price } = details;
    pb::Product {
        id,
        name,
        description,
        category,
        price: Some(money::Money { minor_units: price.minor_units, currency: price.currency }),
        stock,
        etag,
        created_at: Some(timestamp(created_at)),
        updated_at: Some(timestamp(updated_at)),
    }
}

/// What can't be an id is the id of nothing.
fn known(id: String) -> Result<String, Status> {
    if is_id(&id) { Ok(id) } else { Err(status::not_found(&subject(&id))) }
}

fn some(etag: &str) -> Option<&str> {
    (!etag.is_empty()).then_some(etag)
}

fn refusal(error: Error) -> Status {
    match error {
        Error::NotFound(id) => status::not_found(&subject(&id)),
        Error::Stale(id) => status::precondition("ETAG", &subject(&id), "has changed since it was read"),
        Error::Short(short) => status::preconditions(short.into_iter().map(|line| {
            let description = match line.available {
                Some(available) => format!("has {available} left, not {}", line.wanted),
                None => "is not sold".to_owned(),
            };
            ("STOCK", subject(&line.product_id), description)
        })),
        Error::Released(order) => {
            status::precondition("RELEASED", &format!("orders/{order}"), "has given its stock back")
        }
        Error::Database(error) => status::from_database(error),
    }
}
