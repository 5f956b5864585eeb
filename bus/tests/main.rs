//! The conformance suite, on every backend there is.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod conformance;
mod copy;
mod redis;
mod sqlite;
