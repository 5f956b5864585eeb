//! The caller's cart, with names and prices from a copy of the catalogue that events keep current.
//!
//! It calls no other service, so it answers while the catalogue is away. It doesn't know what is in stock: an order finds
//! that out.

mod catalogue;
mod domain;
mod grpc;
mod store;

use std::sync::Arc;

use database::Migration;
use service::{Builder, Config, Service};

use crate::{catalogue::Catalogue, store::Store};

const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "init", sql: include_str!("../migrations/0001_init.sql") }];

/// Opens the database and binds the listener; nothing is served or consumed before the service runs.
///
/// # Errors
/// If the database can't be opened or migrated, or the address is taken.
pub async fn build(config: Config) -> anyhow::Result<Service> {
    let builder = Builder::new("cart", config, &MIGRATIONS).await?;
    let store = Store::new(builder.database(), grpc::record);
    let catalogue = Catalogue::new(store.clone());
    Ok(builder.grpc(grpc::server(store)).consumer(catalogue::group()?, Arc::new(catalogue)).build())
}
