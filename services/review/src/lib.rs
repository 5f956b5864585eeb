//! What customers say of products: anyone reads reviews, a signed-in customer writes one a product.
//!
//! It owns no products, so it doesn't know which exist: a review is of whatever well-formed id it names.

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
    let builder = Builder::new("review", config, &MIGRATIONS).await?;
    let store = Store::new(builder.database(), grpc::record);
    if seeded {
        seed::run(&store).await?;
    }
    let pages = builder.page_token();
    Ok(builder.grpc(grpc::server(store, pages)).build())
}
