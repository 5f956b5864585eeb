//! The catalogue and its stock: anyone reads it, who has the scope `catalog:write` changes it, and the order service
//! reserves from it and gives back.
//!
//! Stock never goes below zero, and an order's reservation is taken once, wholly or not at all. Prices and stock in carts
//! and orders are theirs: they get copies by events or ask.

mod domain;
mod grpc;
mod seed;
mod store;

use database::Migration;
use service::{Builder, Config, Service};

use crate::store::Store;

const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "init", sql: include_str!("../migrations/0001_init.sql") }];

/// Opens the database and binds the listener; nothing is served before the service runs.
///
/// # Errors
/// If the database can't be opened or migrated, or the address is taken.
pub async fn build(config: Config) -> anyhow::Result<Service> {
    let seeded = config.seed;
    let builder = Builder::new("product", config, &MIGRATIONS).await?;
    let store = Store::new(builder.database(), grpc::record);
    if seeded {
        store.seed(&seed::products()).await?;
    }
    let pages = builder.page_token();
    Ok(builder.grpc(grpc::server(store, pages)).build())
}
