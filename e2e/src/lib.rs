//! Whole-system scenarios: a real `turnpike` process, watched and used from outside.

#![expect(clippy::panic, clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod fleet;
pub mod herd;
mod prometheus;
mod rotel;
pub mod shown;
mod sms;
mod system;

pub use client::{Answer, Client};
pub use fleet::{Fleet, FleetOptions};
pub use herd::Herd;
pub use prometheus::{Prometheus, Sample, promtool};
pub use rotel::Rotel;
pub use sms::{Sms, Text};
pub use system::{Options, System, binary};
