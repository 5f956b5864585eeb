//! Whole-system scenarios: a real `turnpike` process, watched and used from outside.

#![expect(clippy::panic, clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod system;

pub use client::{Answer, Client};
pub use system::{Options, System, binary};
