//! The product service over real gRPC, on SQLite and on PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod catalogue;
mod events;
mod shop;
mod stock;
