//! One database handle for SQLite and PostgreSQL, so that a service's SQL is written once.
//!
//! Placeholders are `$1`, `$2`, … on both. Values are what both engines store alike: `BIGINT`, `TEXT`, `BYTEA`, and NULL;
//! times are `BIGINT` microseconds since 1970 (see [`micros`]). ` FOR UPDATE` is left out on SQLite, whose transactions
//! hold the write lock from their start. It does not hide SQL, map objects or retry.

mod connect;
mod migrate;
mod transaction;
mod value;

pub use connect::{Database, Engine, Url};
pub use migrate::Migration;
pub use transaction::Transaction;
pub use value::{Row, Value, from_micros, micros};

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A unique constraint refused the row; `constraint` as far as the engine names it (`accounts.email` on SQLite, the
    /// constraint's name on PostgreSQL).
    #[error("unique constraint {constraint}")]
    Unique { constraint: String },
    /// The database is away, locked or out of connections: trying again later may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A statement, a row or the schema is not what the code expects.
    #[error("{0}")]
    Query(String),
}
