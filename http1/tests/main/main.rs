//! The codec against scripts of bytes, and against hyper.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod client_differential;
mod server;
mod server_differential;
