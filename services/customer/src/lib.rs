//! Accounts: signing up, and telling the gateway who a pair of e-mail and password is.
//!
//! A password is hashed on arrival and its hash never leaves the database: no answer, event or log has it. There are no
//! sessions here; they are the gateway's.

mod domain;
mod grpc;
mod password;
mod seed;
mod store;

use std::sync::Arc;

use database::Migration;
use service::{Builder, Service};

pub use crate::seed::{Credentials, Seed};
use crate::{password::Hasher, store::Store};

const MIGRATIONS: [Migration; 1] =
    [Migration { version: 1, name: "init", sql: include_str!("../migrations/0001_init.sql") }];

#[derive(Clone)]
pub struct Config {
    pub service: service::Config,
    /// The accounts made or brought up to date at the start.
    pub seed: Seed,
}

/// Opens the database, makes the accounts of the seed and binds the listener; nothing is served before the service runs.
///
/// # Errors
/// If the database can't be opened or migrated, the address is taken, or another account has a seeded one's e-mail.
pub async fn build(config: Config) -> anyhow::Result<Service> {
    let builder = Builder::new("customer", config.service, &MIGRATIONS).await?;
    let store = Store::new(builder.database(), grpc::record);
    let hasher = Arc::new(Hasher::new()?);
    seed::run(&store, &hasher, &config.seed).await?;
    Ok(builder.grpc(grpc::accounts(store.clone(), hasher.clone())).grpc(grpc::authenticator(store, hasher)).build())
}
