//! Clients of real brokers on a real bus, over a network that fails: this crate's, and the one in JavaScript.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod follow;
mod hostile;
mod javascript;
mod nodes;
mod publish;
mod rooms;
mod tls;

mod impostor;
mod lab;
