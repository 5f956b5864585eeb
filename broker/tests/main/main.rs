//! A broker on a real bus, asked over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod confirm;
mod follow;
mod publish;
mod site;
