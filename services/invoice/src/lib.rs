//! Invoices: asked for by the order service, made by a worker of this one, announced as `INVOICES/CREATED`.
//!
//! A wish is accepted durably and at once; however often it is repeated, an order gets one invoice. Numbers have no gaps.
//! Invoices are never changed.

mod domain;
mod grpc;
mod store;
mod worker;

use std::sync::Arc;

use database::Migration;
use service::{Builder, Config, Service};

use crate::{store::Store, worker::Worker};

const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "init", sql: include_str!("../migrations/0001_init.sql") }];

/// Where a test may have the process die; see [`lifecycle::abort_point`].
pub const ABORT_POINTS: &[&str] = &["invoice.accepted", "invoice.created"];

/// Opens the database and binds the listener; nothing is served before the service runs.
///
/// # Errors
/// If the database can't be opened or migrated, or the address is taken.
pub async fn build(config: Config) -> anyhow::Result<Service> {
    let builder = Builder::new("invoice", config, &MIGRATIONS).await?;
    let store = Store::new(builder.database(), grpc::record);
    let worker = Arc::new(Worker::new(store.clone()));
    Ok(builder.grpc(grpc::server(store)).consumer(worker::group()?, worker).build())
}
