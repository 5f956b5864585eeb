//! The invoice service over real gRPC, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod make;
mod read;
mod request;
mod shop;
