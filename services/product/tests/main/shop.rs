//! A product service, and who calls it.

use proto::shop::{
    money::v1::Money,
    product::v1::{
        CreateProductRequest, GetStockRequest, Product, ReserveStockRequest, StockLine,
        product_service_client::ProductServiceClient,
    },
};
use stage::{Caller, Instance, Scene, Stage};
use tonic::Status;

pub type Client = ProductServiceClient<Caller>;

pub struct Shop {
    pub stage: Stage,
    pub instance: Instance,
}

impl Scene for Shop {
    async fn on(stage: Stage) -> Self {
        Self { instance: start(&stage, false).await, stage }
    }
}

impl Shop {
    /// Starts another instance.
    pub async fn start(&self) -> Instance {
        start(&self.stage, false).await
    }

    /// Starts another instance, which puts demo data into an empty table.
    pub async fn start_with_demo(&self) -> Instance {
        start(&self.stage, true).await
    }

    pub fn anyone(&self) -> Client {
        ProductServiceClient::new(self.instance.anyone())
    }

    pub fn seller(&self) -> Client {
        ProductServiceClient::new(self.instance.caller("operators/1", &["catalog:write"]))
    }

    pub fn customer(&self) -> Client {
        ProductServiceClient::new(self.instance.caller("customers/1", &[]))
    }

    /// The order service, acting alone.
    pub fn order(&self) -> Client {
        ProductServiceClient::new(self.instance.order_service())
    }

    pub async fn create(&self, name: &str, stock: i64) -> Product {
        let product = Product { stock, ..product(name) };
        let request = CreateProductRequest { product: Some(product) };
        self.seller().create_product(request).await.unwrap().into_inner()
    }

    pub async fn reserve(&self, order: &str, lines: &[(&str, i64)]) -> Result<Vec<StockLine>, Status> {
        reserve(&self.instance, order, lines).await
    }

    pub async fn stock(&self, id: &str) -> i64 {
        let request = GetStockRequest { product_id: id.to_owned() };
        self.anyone().get_stock(request).await.unwrap().into_inner().available
    }
}

/// Reserves through an instance.
pub async fn reserve(instance: &Instance, order: &str, lines: &[(&str, i64)]) -> Result<Vec<StockLine>, Status> {
    let lines = lines.iter().map(|&(id, quantity)| StockLine { product_id: id.to_owned(), quantity }).collect();
    let request = ReserveStockRequest { order_id: order.to_owned(), lines };
    let mut client = ProductServiceClient::new(instance.order_service());
    Ok(client.reserve_stock(request).await?.into_inner().lines)
}

async fn start(stage: &Stage, seed: bool) -> Instance {
    let config = service::Config { seed, ..stage.config() };
    stage.start(product::build(config).await.unwrap())
}

/// A product that is fine.
pub fn product(name: &str) -> Product {
    let price = Some(Money { minor_units: 1_999, currency: "EUR".to_owned() });
    Product { name: name.to_owned(), category: "tea".to_owned(), price, ..Product::default() }
}
