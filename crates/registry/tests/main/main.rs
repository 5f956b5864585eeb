//! The registry on a real Redis.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod keeping;
mod stage;
mod telling;
