//! Everything around the order service: a database and a bus of its own, a gateway's signer, the services it calls; and
//! the service itself, once a scenario starts it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bus::{Bus, Consumer, Delivery, Failure, Group, Handler, Mode};
use database::Database;
use events::Envelope;
use lifecycle::{Role as _, Shutdown};
use order::{
    Config,
    clients::Clients,
    domain::{Event, Order, Status},
    draft::{Cart, Draft, Item, Line, Money},
    placement::Placement,
    store::{Placed, Store},
    sweep::{Limits, Sweep},
};
use principal::{Issuer, Keys, Principal, RootSecret, Signer, Verifier};
use proto::shop::{
    cart::v1::cart_service_server::CartServiceServer, invoice::v1::invoice_service_server::InvoiceServiceServer,
    product::v1::product_service_server::ProductServiceServer,
};
use tempfile::TempDir;
use testkit::{Postgres, eventually};
use tokio::sync::OnceCell;

use crate::{
    customer::Customer,
    fake::{self, closed_port},
};

pub const BOUND: Duration = Duration::from_secs(30);
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

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
    pub cart: Arc<fake::Cart>,
    pub product: Arc<fake::Product>,
    pub invoice: Arc<fake::Invoice>,
    root: RootSecret,
    url: database::Url,
    /// Where cart, product and invoice are.
    addresses: [SocketAddr; 3],
    opened: OnceCell<Database>,
    shutdown: Shutdown,
    _postgres: Option<Postgres>,
    _folder: TempDir,
}

impl Stage {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = database::Url::sqlite(folder.path().join("order.db"));
        Self::on(folder, url, None).await
    }

    pub async fn postgres() -> Self {
        let postgres = testkit::postgres().await;
        Self::on(tempfile::tempdir().unwrap(), database::Url(postgres.url()), Some(postgres)).await
    }

    async fn on(folder: TempDir, url: database::Url, postgres: Option<Postgres>) -> Self {
        let root = RootSecret::generate();
        let verifier = Verifier::new(issuers(&root));
        let shutdown = Shutdown::new();
        let stop = || shutdown.draining().clone();
        let cart = Arc::new(fake::Cart::new(&verifier));
        let product = Arc::new(fake::Product::new(&verifier));
        let invoice = Arc::new(fake::Invoice::new(&verifier));
        let addresses = [
            fake::serve(ANY_PORT, CartServiceServer::from_arc(Arc::clone(&cart)), stop()).await,
            fake::serve(ANY_PORT, ProductServiceServer::from_arc(Arc::clone(&product)), stop()).await,
            fake::serve(ANY_PORT, InvoiceServiceServer::from_arc(Arc::clone(&invoice)), stop()).await,
        ];
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        Self {
            bus,
            cart,
            product,
            invoice,
            root,
            url,
            addresses,
            opened: OnceCell::new(),
            shutdown,
            _postgres: postgres,
            _folder: folder,
        }
    }

    /// Has product not be there at all, until [`Stage::open_product`].
    pub fn close_product(&mut self) {
        self.addresses[1] = closed_port();
    }

    pub async fn open_product(&self) {
        let server = ProductServiceServer::from_arc(Arc::clone(&self.product));
        fake::serve(self.addresses[1], server, self.shutdown.draining().clone()).await;
    }

    /// Starts the order service.
    pub async fn start(&self) -> SocketAddr {
        self.start_with(|_| ()).await
    }

    /// Starts the order service with another configuration.
    pub async fn start_with(&self, change: impl FnOnce(&mut Config)) -> SocketAddr {
        let service = service::Config {
            listen: ANY_PORT,
            database: self.url.clone(),
            bus: self.bus.clone(),
            issuers: issuers(&self.root),
            root: self.root.clone(),
            seed: false,
            pace: None,
        };
        let [cart, product, invoice] = self.endpoints();
        let mut config = Config::new(service, cart, product, invoice);
        change(&mut config);
        let service = order::build(config).await.unwrap();
        let address = service.address().unwrap();
        tokio::spawn(Box::new(service).run(self.shutdown.clone()));
        address
    }

    /// A customer with the scopes of one, who calls the service at `address`.
    pub fn customer(&self, name: &str, address: SocketAddr) -> Customer {
        self.caller(&format!("customers/{name}"), &["shop"], address)
    }

    pub fn caller(&self, subject: &str, scopes: &[&str], address: SocketAddr) -> Customer {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let principal = Principal { subject: subject.to_owned(), scopes, ..Principal::default() };
        Customer::new(address, Signer::new("gateway", &self.root).sign(&principal))
    }

    /// The service's store, for scenarios that do without the service.
    pub async fn store(&self) -> Store {
        let database = self.opened.get_or_init(async || {
            let mut migrations = order::MIGRATIONS.to_vec();
            migrations.extend([outbox::migration(9001), bus::Inbox::migration(9002)]);
            Database::open(&self.url, "order", &migrations).await.unwrap()
        });
        Store::new(database.await.clone(), order::record)
    }

    pub async fn placement(&self) -> Placement {
        let [cart, product, invoice] = self.endpoints();
        let signer = Signer::new(fake::ORDER, &self.root);
        Placement::new(self.store().await, Clients::new(cart, product, invoice, signer).unwrap())
    }

    /// A sweep that finds everything overdue.
    pub async fn sweep(&self) -> Sweep {
        let limits = Limits { pending: Duration::ZERO, release: Duration::ZERO, stalled: Duration::ZERO };
        Sweep::new(self.store().await, Arc::new(self.placement().await), limits)
    }

    /// An order of so much tea, placed, but seen through by nobody.
    pub async fn placed(&self, cart_version: i64, quantity: i64) -> Order {
        let unit_price = Money { minor_units: 300, currency: "EUR".to_owned() };
        let line = Line { product_id: "tea".to_owned(), name: "Tea".to_owned(), quantity, unit_price };
        let cart = Cart { version: cart_version, items: vec![Item { line, available: true }] };
        let draft = Draft::new("customers/ada", cart).unwrap();
        match self.store().await.place(&draft, None).await.unwrap() {
            Placed::Now(order) => order,
            other => unreachable!("{other:?}"),
        }
    }

    /// The names of what happened to an order.
    pub async fn history(&self, id: &str) -> Vec<String> {
        let history = self.store().await.history(id).await.unwrap();
        history.iter().map(|recorded| recorded.event.to_parts().0).collect()
    }

    /// Waits until nothing is left to do for an order, and checks that all services agree on what became of it.
    pub async fn finished(&self, id: &str) -> Order {
        let store = self.store().await;
        let finished = async || store.load(id).await.unwrap().filter(|order| order.stage.is_finished());
        let order = eventually("the order is finished", BOUND, finished).await;
        assert_eq!(store.find(id).await.unwrap().as_ref(), Some(&order), "the projection is the fold");
        let confirmed = order.status() == Status::Confirmed;
        assert_eq!(self.product.has_reserved(id), confirmed);
        assert_eq!(self.product.has_released(id), !confirmed);
        assert_eq!(self.invoice.requested(id).is_some(), confirmed);
        assert_eq!(self.cart.is_cleared(id), confirmed);
        order
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

    fn endpoints(&self) -> [Vec<String>; 3] {
        self.addresses.map(|address| vec![address.to_string()])
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.escalate();
    }
}

fn issuers(root: &RootSecret) -> Vec<Issuer> {
    let issuer = |name: &str| Issuer { name: name.to_owned(), keys: Keys::Inline(Signer::new(name, root).jwks()) };
    vec![issuer("gateway"), issuer(fake::ORDER)]
}

/// The way of an order that is confirmed.
pub const CONFIRMED: [&str; 5] = ["OrderPlaced", "StockReserved", "InvoiceRequested", "OrderConfirmed", "CartCleared"];

/// Whether an order was rejected, for whatever reason.
pub fn rejected() -> Event {
    Event::OrderRejected { reason: "for a test".to_owned() }
}

/// What a consumer has seen so far.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<Vec<Arc<Envelope>>>>);

impl Witness {
    /// Waits until there are so many events of an entity.
    pub async fn of(&self, subject: &str, count: usize) -> Vec<Arc<Envelope>> {
        eventually(&format!("{count} events of {subject}"), BOUND, async || {
            let seen = self.0.lock().unwrap();
            let of_subject = seen.iter().filter(|event| event.subject.as_deref() == Some(subject));
            let found: Vec<_> = of_subject.cloned().collect();
            (found.len() >= count).then_some(found)
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
