//! The order service over real gRPC, on SQLite and on PostgreSQL. The services it calls are small ones of the tests' own,
//! on real sockets, which can be away, refuse, and lose their answers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod customer;
mod fake;
mod place;
mod placement;
mod read;
mod shop;
mod sweep;
