#![expect(clippy::panic, clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "all/metrics.rs"]
mod metrics;
#[path = "all/trace.rs"]
mod trace;
