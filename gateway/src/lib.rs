//! The API gateway: HTTP in; gRPC, HTTP and WebSocket out. Knows no shop: everything it does follows from its
//! configuration and from descriptors.
//!
//! [`check`] tells whether a configuration is good, [`build`] makes a [`Gateway`] of it, which runs as a
//! [`lifecycle::Role`]. The order of what happens to a request stands in `pipeline`.

mod access_log;
pub mod action;
mod address;
pub mod analytics;
mod auth;
mod cache;
mod coding;
mod compile;
pub mod config;
pub mod context;
pub mod descriptors;
mod dialect;
pub mod error;
pub mod explain;
mod following;
mod gateway;
mod grpc_problem;
mod idempotency;
mod in_flight;
mod layers;
mod limit;
mod metrics;
pub mod openapi;
mod ops;
mod outcome;
mod overload;
mod pipeline;
mod problem;
mod recent;
mod reload;
mod route;
mod server;
mod shared;
mod snapshot;
mod tls;
pub mod worker;

#[doc(hidden)]
pub use auth::jwt::fuzz as fuzz_token;
pub use auth::keys;
pub use config::{Config, ConfigError, Properties, schema};
pub use gateway::{ConfigSource, Gateway, Options, build, build_with, check, describe, explain};
pub use overload::Gauges;
pub use upstream::{Body, BoxError};

#[cfg(test)]
mod fuzzing;
