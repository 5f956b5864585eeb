//! An order service once a scenario starts it, its own store, and the services it calls.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use database::Database;
use order::{
    Config,
    clients::Clients,
    domain::{Event, Order, Status},
    draft::{Cart, Draft, Item, Line, Money},
    placement::Placement,
    store::{Placed, Store},
    sweep::{Limits, Sweep},
};
use principal::{Signer, Verifier};
use proto::shop::{
    cart::v1::cart_service_server::CartServiceServer, invoice::v1::invoice_service_server::InvoiceServiceServer,
    product::v1::product_service_server::ProductServiceServer,
};
use stage::{ANY_PORT, BOUND, Instance, ORDER, Scene, Stage};
use testkit::eventually;
use tokio::sync::OnceCell;

use crate::{
    customer::Customer,
    fake::{self, closed_port},
};

pub struct Shop {
    pub stage: Stage,
    pub cart: Arc<fake::Cart>,
    pub product: Arc<fake::Product>,
    pub invoice: Arc<fake::Invoice>,
    /// Where cart, product and invoice are.
    addresses: [SocketAddr; 3],
    opened: OnceCell<Database>,
}

impl Scene for Shop {
    async fn on(stage: Stage) -> Self {
        let verifier = Verifier::new(stage.issuers());
        let stop = || stage.shutdown.draining().clone();
        let cart = Arc::new(fake::Cart::new(&verifier));
        let product = Arc::new(fake::Product::new(&verifier));
        let invoice = Arc::new(fake::Invoice::new(&verifier));
        let addresses = [
            fake::serve(ANY_PORT, CartServiceServer::from_arc(Arc::clone(&cart)), stop()).await,
            fake::serve(ANY_PORT, ProductServiceServer::from_arc(Arc::clone(&product)), stop()).await,
            fake::serve(ANY_PORT, InvoiceServiceServer::from_arc(Arc::clone(&invoice)), stop()).await,
        ];
        Self { stage, cart, product, invoice, addresses, opened: OnceCell::new() }
    }
}

impl Shop {
    /// Has product not be there at all, until [`Shop::open_product`].
    pub fn close_product(&mut self) {
        self.addresses[1] = closed_port();
    }

    pub async fn open_product(&self) {
        let server = ProductServiceServer::from_arc(Arc::clone(&self.product));
        fake::serve(self.addresses[1], server, self.stage.shutdown.draining().clone()).await;
    }

    /// Starts the order service.
    pub async fn start(&self) -> Instance {
        self.start_with(|_| ()).await
    }

    /// Starts the order service with another configuration.
    pub async fn start_with(&self, change: impl FnOnce(&mut Config)) -> Instance {
        let [cart, product, invoice] = self.endpoints();
        let mut config = Config::new(self.stage.config(), cart, product, invoice);
        change(&mut config);
        self.stage.start(order::build(config).await.unwrap())
    }

    /// The same services by a name, which may have addresses at which they are not.
    pub fn by_name(&self) -> [Vec<String>; 3] {
        self.addresses.map(|address| vec![format!("dns://localhost:{}", address.port())])
    }

    /// A customer with the scopes of one, who calls an instance.
    pub fn customer(&self, name: &str, instance: &Instance) -> Customer {
        Customer::new(instance.caller(&format!("customers/{name}"), &["shop"]))
    }

    /// The service's store, for scenarios that do without the service.
    pub async fn store(&self) -> Store {
        let database = self.opened.get_or_init(async || {
            let mut migrations = order::MIGRATIONS.to_vec();
            migrations.extend([outbox::migration(9001), bus::Inbox::migration(9002)]);
            Database::open(&self.stage.database, "order", &migrations).await.unwrap()
        });
        Store::new(database.await.clone(), order::record)
    }

    pub async fn placement(&self) -> Placement {
        let [cart, product, invoice] = self.endpoints();
        let signer = Signer::new(ORDER, &self.stage.root);
        Placement::new(
            self.store().await,
            Clients::new(cart, product, invoice, signer, &upstream::Discovery::default()).unwrap(),
        )
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

    fn endpoints(&self) -> [Vec<String>; 3] {
        self.addresses.map(|address| vec![address.to_string()])
    }
}

/// The way of an order that is confirmed.
pub const CONFIRMED: [&str; 5] = ["OrderPlaced", "StockReserved", "InvoiceRequested", "OrderConfirmed", "CartCleared"];

/// Whether an order was rejected, for whatever reason.
pub fn rejected() -> Event {
    Event::OrderRejected { reason: "for a test".to_owned() }
}
