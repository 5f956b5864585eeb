//! Logs, traces and metrics of a process, set up once, and the trace context that travels with every request and event.
//!
//! Logs are JSON lines on stdout. Traces leave by OTLP over gRPC where an endpoint is configured. Metrics are scraped
//! from `/metrics` of the ops listener; each crate names its own in a file `metrics.rs`.

mod code;
mod context;
mod init;
mod metrics;
mod path;
mod process;
mod resource;
mod role;
mod sample;
mod state;

pub use code::code_name;
pub use context::{TraceContext, current, extract, inject, is_recording, of_span, rename, set_parent, write_hex};
pub use init::{Config, Telemetry, init};
pub use metrics::{LATENCY_BUCKETS, Meter, meter, render};
pub use path::path;
pub use sample::sample;
