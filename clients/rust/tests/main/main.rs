//! Clients of real brokers on a real bus, over a network that fails: this crate's, and the one in JavaScript.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod follow;
mod javascript;

mod lab;
mod publish;
mod rooms;
