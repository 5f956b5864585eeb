//! One database handle for SQLite and PostgreSQL, so that a service's SQL is written once.
//!
//! It promises that the same statement means the same on both engines, as long as it keeps to what both have:
//!
//! - Placeholders are `$1`, `$2`, …; parameters are made by [`params!`].
//! - Columns are `BIGINT`, `TEXT` or `BYTEA`. Times are `BIGINT` microseconds since 1970 (see [`micros`]), booleans
//!   `BIGINT` 0 or 1. `count(*)` is read as `i64`; `sum` of a `BIGINT` is `NUMERIC` on PostgreSQL and must be written
//!   `CAST(sum(x) AS BIGINT)`.
//! - `$1 IS NULL` tells PostgreSQL no type: write `CAST($1 AS TEXT) IS NULL`.
//! - ` FOR UPDATE` and ` FOR UPDATE SKIP LOCKED` are left out on SQLite, whose transactions hold the write lock from
//!   their start.
//! - Every wait has an end: 5 s for a connection or the write lock, 10 s for a row's lock, 30 s for a statement.
//!
//! It does not hide SQL, map objects or retry.

mod connect;
mod error;
mod migrate;
mod postgres;
mod row;
mod signal;
mod sqlite;
mod trace;
mod transaction;
mod url;
mod value;

pub use connect::Database;
pub use error::Error;
pub use migrate::Migration;
pub use row::{FromValue, Row};
pub use transaction::Transaction;
pub use url::{Engine, Url};
pub use value::{Value, from_micros, micros};
