//! What is known of endpoints, in the database that all who deliver share.

mod attempt;
mod change;
mod endpoint;
mod schema;
mod trim;
mod wait;

use std::sync::Arc;

use database::Database;

pub(crate) use attempt::Health;
pub(crate) use endpoint::{Fresh, Listing, Revision};
pub use schema::migrations;
pub(crate) use trim::MOST_ATTEMPTS;
pub(crate) use wait::{Found, Wait};

use crate::{Error, seal::Seal};

#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
    seal: Arc<Seal>,
}

impl Store {
    pub fn new(database: Database, seal: Seal) -> Self {
        Self { database, seal: Arc::new(seal) }
    }
}

/// Reads a word that only this program writes.
fn word<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    read(text).ok_or_else(|| Error::Stored(format!("{text:?} is none that this program writes")))
}

fn number<T: TryFrom<i64>>(value: i64) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::Stored(format!("{value} is out of range")))
}
