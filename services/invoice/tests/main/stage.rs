//! A running invoice service on real parts: its own database, its own bus, a gateway's and the order service's signer.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bus::{Bus, Consumer, Delivery, Failure, Group, Handler, Mode};
use events::Envelope;
use lifecycle::{Role as _, Shutdown};
use principal::{Issuer, Keys, METADATA, Principal, RootSecret, Signer};
use proto::shop::{
    invoice::v1::{
        GetInvoiceRequest, Invoice, InvoiceLine, RequestInvoiceRequest, invoice_service_client::InvoiceServiceClient,
    },
    money::v1::Money,
};
use tempfile::TempDir;
use testkit::{Postgres, eventually};
use tonic::{Request, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

pub const BOUND: Duration = Duration::from_secs(30);
const ORDER: &str = "/services/order";

/// Each scenario once on SQLite and once on a real PostgreSQL.
macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario(crate::stage::Stage::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario(crate::stage::Stage::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both;

pub struct Stage {
    pub bus: Bus,
    root: RootSecret,
    database: database::Url,
    address: SocketAddr,
    shutdown: Shutdown,
    _postgres: Option<Postgres>,
    _folder: TempDir,
}

impl Stage {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = database::Url::sqlite(folder.path().join("invoice.db"));
        Self::on(folder, database, None).await
    }

    pub async fn postgres() -> Self {
        let postgres = testkit::postgres().await;
        Self::on(tempfile::tempdir().unwrap(), database::Url(postgres.url()), Some(postgres)).await
    }

    async fn on(folder: TempDir, database: database::Url, postgres: Option<Postgres>) -> Self {
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        let mut stage = Self {
            bus,
            root: RootSecret::generate(),
            database,
            address: ([127, 0, 0, 1], 0).into(),
            shutdown: Shutdown::new(),
            _postgres: postgres,
            _folder: folder,
        };
        stage.address = stage.start().await;
        stage
    }

    /// Starts an instance, beside those that run.
    pub async fn start(&self) -> SocketAddr {
        let issuers = ["gateway", ORDER]
            .map(|name| Issuer { name: name.to_owned(), keys: Keys::Inline(Signer::new(name, &self.root).jwks()) });
        let config = service::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            database: self.database.clone(),
            bus: self.bus.clone(),
            issuers: issuers.to_vec(),
            root: self.root.clone(),
            seed: false,
            pace: None,
        };
        let service = invoice::build(config).await.unwrap();
        let address = service.address().unwrap();
        tokio::spawn(Box::new(service).run(self.shutdown.clone()));
        address
    }

    /// The order service.
    pub fn order(&self) -> Caller {
        self.with_token(Signer::new(ORDER, &self.root).sign_own())
    }

    pub fn caller(&self, subject: &str, scopes: &[&str]) -> Caller {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let principal = Principal { subject: subject.to_owned(), scopes, ..Principal::default() };
        self.with_token(Signer::new("gateway", &self.root).sign(&principal))
    }

    fn with_token(&self, token: String) -> Caller {
        let channel = Channel::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy();
        Caller { client: InvoiceServiceClient::new(channel), token }
    }

    /// What a queue has carried, as a group of this name reads it; kept current.
    pub fn witness(&self, group: &str, filter: &str) -> Witness {
        let witness = Witness::default();
        let group = Group::new(group, filter.parse().unwrap(), Mode::Exclusive);
        let consumer = Consumer::new(self.bus.clone(), group, Arc::new(witness.clone()));
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { consumer.run(shutdown.draining().clone(), shutdown.dropping().clone()).await });
        witness
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.escalate();
    }
}

#[derive(Clone)]
pub struct Caller {
    client: InvoiceServiceClient<Channel>,
    token: String,
}

impl Caller {
    pub async fn request(&self, request: RequestInvoiceRequest) -> Result<String, Status> {
        let answer = self.client.clone().request_invoice(self.signed(request)).await;
        answer.map(|answer| answer.into_inner().order_id)
    }

    pub async fn get(&self, order_id: &str) -> Result<Invoice, Status> {
        let request = self.signed(GetInvoiceRequest { order_id: order_id.to_owned() });
        self.client.clone().get_invoice(request).await.map(Response::into_inner)
    }

    /// Waits until the invoice of an order is made.
    pub async fn made(&self, order_id: &str) -> Invoice {
        eventually("the invoice is made", BOUND, async || self.get(order_id).await.ok()).await
    }

    fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(METADATA, self.token.parse().unwrap());
        request
    }
}

/// A wish for the invoice of an order: two of tea and a cup.
pub fn wish(order_id: &str) -> RequestInvoiceRequest {
    let money = |minor_units| Some(Money { minor_units, currency: "EUR".to_owned() });
    let line = |product_id: &str, quantity, price: i64| InvoiceLine {
        product_id: product_id.to_owned(),
        name: product_id.to_uppercase(),
        quantity,
        unit_price: money(price),
        amount: money(price * quantity),
    };
    RequestInvoiceRequest {
        order_id: order_id.to_owned(),
        customer: "customers/ada".to_owned(),
        lines: vec![line("tea", 2, 350), line("cup", 1, 1_200)],
        total: money(1_900),
    }
}

/// The fields that a refusal names.
pub fn fields(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request().map(|bad| bad.field_violations);
    bad.unwrap_or_default().into_iter().map(|violation| violation.field).collect()
}

/// What a consumer has seen so far.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Vec<Arc<Envelope>>>>);

impl Witness {
    /// Waits until there are so many events, and gives all there are.
    pub async fn at_least(&self, count: usize) -> Vec<Arc<Envelope>> {
        eventually(&format!("{count} events"), BOUND, async || {
            let seen = self.0.lock().unwrap();
            (seen.len() >= count).then(|| seen.clone())
        })
        .await
    }
}

#[async_trait::async_trait]
impl Handler for Witness {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        self.0.lock().unwrap().push(delivery.envelope.clone());
        Ok(())
    }
}
