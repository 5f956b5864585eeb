#![expect(clippy::panic, clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod alone;
mod analytics_cli;
mod bus_cli;
mod bus_python;
mod configuration;
mod crash;
mod dashboard;
mod examples;
mod failover;
mod failure;
mod heard;
mod idempotent_order;
mod instances;
mod jobs_guide;
mod kill;
mod layout;
mod limits;
mod metrics;
mod openapi;
mod readme;
mod replicas;
mod revoke;
mod shoppers;
mod soak;
mod trace;
mod walk;
