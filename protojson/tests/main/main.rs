//! The tables against the dynamic path.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod conformance;
mod dice;
mod differential;
mod fields;
mod properties;
mod schemas;
mod spelling;
mod tree;
