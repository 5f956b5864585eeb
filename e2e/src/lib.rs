//! Whole-system scenarios: a real `turnpike` process, watched and used from outside.

#![expect(clippy::panic, clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod fleet;
mod sms;
mod system;

pub use client::{Answer, Client};
pub use fleet::{Fleet, FleetOptions};
pub use sms::{Sms, Text};
pub use system::{Options, System, binary};
