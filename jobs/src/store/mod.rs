//! Jobs in the database: the truth about them. Every change locks its job's row, asks the state machine, and writes what
//! differs.

mod attempt;
mod create;
mod locked;
mod outbound;
mod read;
mod schedule;
mod schema;
mod trim;

use database::{Database, Url};

pub(crate) use attempt::{Ended, Held, Started};
pub use create::Created;
pub(crate) use locked::DUE;
pub use schema::migrations;

use crate::Error;

/// The most bytes of an error that are kept.
const ERROR_BYTES: usize = 4096;

#[derive(Clone)]
pub(crate) struct Store(Database);

impl Store {
    pub async fn open(url: &Url) -> Result<Self, Error> {
        Ok(Self::on(Database::open(url, "jobs", &migrations(1)).await?))
    }

    /// In a database that has [`migrations`].
    pub fn on(database: Database) -> Self {
        Self(database)
    }

    pub async fn close(&self) {
        self.0.close().await;
    }
}

/// An error as it is kept: not all of it, and as PostgreSQL takes it.
fn kept(error: &str) -> String {
    error[..error.floor_char_boundary(ERROR_BYTES)].replace('\0', "\u{fffd}")
}

/// Reads a word that only this program writes.
fn word<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    read(text).ok_or_else(|| Error::Stored(format!("{text:?} is none that this program writes")))
}

fn number<T: TryFrom<i64>>(value: i64) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::Stored(format!("{value} is out of range")))
}

fn id(text: &str) -> Result<uuid::Uuid, Error> {
    word(text, |text| text.parse().ok())
}
