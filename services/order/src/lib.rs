//! Orders: placed at once as `pending`, then confirmed or rejected.
//!
//! An order is what its events say (`domain`); they are stored with an expected version, and with them, in one
//! transaction, the projection that lists are read from and what goes to the bus (`store`). PlaceOrder (`grpc`) only writes
//! down the wish; `placement` sees it through; `sweep` ends what nothing else does. Whatever is killed wherever, an order ends
//! up confirmed with one invoice and one reservation, or rejected with none. It keeps no stock, prices or invoices itself.

pub mod changes;
pub mod clients;
pub mod domain;
pub mod draft;
mod grpc;
mod metadata;
mod metrics;
pub mod placement;
pub mod store;
pub mod sweep;

use std::{sync::Arc, time::Duration};

use database::Migration;
use service::{Builder, Service};
use upstream::Discovery;

use crate::{
    clients::Clients,
    placement::Placement,
    store::Store,
    sweep::{Limits, Sweep},
};

pub use grpc::record;

/// The tables, without those of the outbox.
pub const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "init", sql: include_str!("../migrations/0001_init.sql") }];

/// Where a test may have the process die, in the order in which an order comes by; see [`lifecycle::abort_point`].
pub const ABORT_POINTS: &[&str] = &[
    "order.placed",
    "placement.reserve.sent",
    "placement.reserved",
    "placement.invoice_requested",
    "placement.invoice.sent",
    "placement.confirmed",
    "placement.clear.sent",
    "placement.cleared",
    "placement.rejected",
    "sweep.rejected",
    "placement.release.sent",
    "placement.released",
];

/// How long nothing may happen to an order before it is commanded anew: longer than placement's own attempts take.
const STALLED: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Config {
    pub service: service::Config,
    /// The services called: `host:port` of each instance, `dns://name:port`, `srv://name` or `registry://service`.
    pub cart: Vec<String>,
    pub product: Vec<String>,
    pub invoice: Vec<String>,
    /// What stays pending longer is rejected. Default 2 min.
    pub pending_limit: Duration,
    /// How often that is looked for. Default 5 s.
    pub sweep_period: Duration,
}

impl Config {
    pub fn new(service: service::Config, cart: Vec<String>, product: Vec<String>, invoice: Vec<String>) -> Self {
        Self {
            service,
            cart,
            product,
            invoice,
            pending_limit: Duration::from_secs(120),
            sweep_period: Duration::from_secs(5),
        }
    }
}

/// Opens the database and binds the listener; nothing is served before the service runs.
///
/// # Errors
/// If the database can't be opened or migrated, the address is taken, or an endpoint is none.
pub async fn build(config: Config) -> anyhow::Result<Service> {
    let Config { service, cart, product, invoice, pending_limit, sweep_period } = config;
    let builder = Builder::new("order", service, &MIGRATIONS).await?;
    let store = Store::new(builder.database(), grpc::record);
    let discovery = Discovery { registry: builder.registry(), ..Discovery::default() };
    let clients = Clients::new(cart, product, invoice, builder.signer(), &discovery)?;
    let placement = Arc::new(Placement::new(store.clone(), clients.clone()));
    let limits = Limits { pending: pending_limit, release: sweep_period, stalled: STALLED };
    let sweep = Arc::new(Sweep::new(store.clone(), Arc::clone(&placement), limits));
    let pages = builder.page_token();
    Ok(builder
        .grpc(grpc::server(store, clients, pages))
        .consumer(placement::group()?, placement)
        .every("sweep", sweep_period, move || {
            let sweep = Arc::clone(&sweep);
            async move { sweep.run().await }
        })
        .build())
}
