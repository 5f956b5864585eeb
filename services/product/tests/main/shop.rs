//! A product service on a real database, listener and bus, and who calls it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{path::Path, sync::Arc, time::Duration};

use lifecycle::{Role as _, Shutdown};
use principal::{Issuer, Keys, Principal, RootSecret, Signer};
use proto::shop::{
    money::v1::Money,
    product::v1::{
        CreateProductRequest, Product, ReserveStockRequest, StockLine, product_service_client::ProductServiceClient,
    },
};
use tempfile::TempDir;
use testkit::Postgres;
use tokio::task::JoinHandle;
use tonic::{Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// How long a test waits for what must happen.
pub const SOON: Duration = Duration::from_secs(20);

pub type Client = ProductServiceClient<Channel>;

/// What an instance needs, and what outlives it.
pub struct Shop {
    pub client: Client,
    pub config: service::Config,
    instance: Option<Instance>,
    _folder: TempDir,
    _postgres: Option<Postgres>,
}

pub struct Instance {
    pub client: Client,
    shutdown: Shutdown,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Shop {
    pub async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("product.db").display());
        Self::on(url, folder, None).await
    }

    pub async fn on_postgres() -> Self {
        let postgres = testkit::postgres().await;
        Self::on(postgres.url(), tempfile::tempdir().unwrap(), Some(postgres)).await
    }

    async fn on(database: String, folder: TempDir, postgres: Option<Postgres>) -> Self {
        let config = config(database, folder.path()).await;
        let instance = Instance::start(config.clone()).await;
        Self { client: instance.client.clone(), config, instance: Some(instance), _folder: folder, _postgres: postgres }
    }

    /// Drains the first instance.
    pub async fn stop(&mut self) {
        self.instance.take().unwrap().stop().await;
    }

    /// Begins the drain of the first instance and doesn't wait for it.
    pub fn begin_stop(&self) {
        self.instance.as_ref().unwrap().shutdown.begin(SOON);
    }

    /// A request of a seller, whom the gateway has authenticated.
    pub fn seller<T>(&self, message: T) -> Request<T> {
        let scopes = vec!["catalog:write".to_owned()];
        let seller = Principal { subject: "operators/1".to_owned(), scopes, ..Principal::default() };
        signed(message, &Signer::new("gateway", &self.config.root).sign(&seller))
    }

    /// A request of a signed-in customer.
    pub fn customer<T>(&self, message: T) -> Request<T> {
        let customer = Principal { subject: "customers/1".to_owned(), ..Principal::default() };
        signed(message, &Signer::new("gateway", &self.config.root).sign(&customer))
    }

    /// A request of the order service acting alone.
    pub fn order<T>(&self, message: T) -> Request<T> {
        signed(message, &Signer::new("/services/order", &self.config.root).sign_own())
    }

    pub async fn create(&self, name: &str, stock: i64) -> Product {
        let product = Product { stock, ..product(name) };
        let request = self.seller(CreateProductRequest { product: Some(product) });
        self.client.clone().create_product(request).await.unwrap().into_inner()
    }

    pub async fn reserve(&self, order: &str, lines: &[(&str, i64)]) -> Result<Vec<StockLine>, Status> {
        self.reserve_through(self.client.clone(), order, lines).await
    }

    pub async fn reserve_through(
        &self,
        mut client: Client,
        order: &str,
        lines: &[(&str, i64)],
    ) -> Result<Vec<StockLine>, Status> {
        let lines = lines.iter().map(|&(id, quantity)| StockLine { product_id: id.to_owned(), quantity }).collect();
        let request = self.order(ReserveStockRequest { order_id: order.to_owned(), lines });
        Ok(client.reserve_stock(request).await?.into_inner().lines)
    }

    pub async fn stock(&self, id: &str) -> i64 {
        let request = proto::shop::product::v1::GetStockRequest { product_id: id.to_owned() };
        self.client.clone().get_stock(request).await.unwrap().into_inner().available
    }
}

impl Instance {
    pub async fn start(config: service::Config) -> Self {
        let service = product::build(config).await.unwrap();
        let address = service.address().unwrap();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(Box::new(service).run(shutdown.clone()));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { client: ProductServiceClient::new(channel), shutdown, running }
    }

    pub async fn stop(self) {
        self.shutdown.begin(SOON);
        tokio::time::timeout(SOON, self.running).await.unwrap().unwrap().unwrap();
    }
}

async fn config(database: String, folder: &Path) -> service::Config {
    let root = RootSecret::generate();
    let issuer = |name: &str| Issuer { name: name.to_owned(), keys: Keys::Inline(Signer::new(name, &root).jwks()) };
    service::Config {
        listen: ([127, 0, 0, 1], 0).into(),
        database: database::Url(database),
        bus: bus::sqlite::open(&folder.join("bus.db")).await.unwrap(),
        issuers: vec![issuer("gateway"), issuer("/services/order")],
        root: root.clone(),
        seed: false,
        pace: None,
    }
}

pub fn signed<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(principal::METADATA, token.parse().unwrap());
    request
}

/// A product that is fine.
pub fn product(name: &str) -> Product {
    let price = Some(Money { minor_units: 1_999, currency: "EUR".to_owned() });
    Product { name: name.to_owned(), category: "tea".to_owned(), price, ..Product::default() }
}

/// The fields that a refusal names, in its order.
pub fn bad_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let Some(bad_request) = details.bad_request() else { panic!("no BadRequest in {status:?}") };
    bad_request.field_violations.iter().map(|violation| violation.field.clone()).collect()
}

/// The type and subject of each failed precondition.
pub fn preconditions(status: &Status) -> Vec<(String, String)> {
    let details = status.get_error_details();
    let Some(failure) = details.precondition_failure() else { panic!("no PreconditionFailure in {status:?}") };
    failure.violations.iter().map(|violation| (violation.r#type.clone(), violation.subject.clone())).collect()
}

/// What a group that begins at the start is given, once there are `count` events; more are waited for a moment.
pub async fn events(bus: &bus::Bus, count: usize) -> Vec<Arc<events::Envelope>> {
    let taken = Arc::new(Taken::default());
    let name = format!("test-{}", uuid::Uuid::new_v4());
    let group = bus::Group::new(&name, "DB/*".parse().unwrap(), bus::Mode::Keyed);
    let drain = tokio_util::sync::CancellationToken::new();
    let consumer = bus::Consumer::new(bus.clone(), group, taken.clone());
    let running = tokio::spawn(consumer.run(drain.clone(), drain.clone()));
    testkit::eventually(&format!("{count} events"), SOON, || {
        let enough = taken.0.lock().unwrap().len() >= count;
        async move { enough.then_some(()) }
    })
    .await;
    drain.cancel();
    running.await.unwrap().unwrap();
    let events = taken.0.lock().unwrap();
    events.clone()
}

#[derive(Default)]
struct Taken(std::sync::Mutex<Vec<Arc<events::Envelope>>>);

#[tonic::async_trait]
impl bus::Handler for Taken {
    async fn handle(&self, delivery: &bus::Delivery) -> Result<(), bus::Failure> {
        self.0.lock().unwrap().push(Arc::clone(&delivery.envelope));
        Ok(())
    }
}
