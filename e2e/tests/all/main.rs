#![expect(clippy::panic, clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod configuration;
mod crash;
mod failure;
mod layout;
mod limits;
mod readme;
mod trace;
mod walk;
