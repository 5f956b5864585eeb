//! Calling a service: where it is, which endpoint is fit, which connection is free, how long it may take, whether to try
//! again. Speaks HTTP/1.1, HTTP/2 and gRPC; knows nothing of routes or of who asks. `stack.rs` shows the order.
//!
//! An [`Upstream`] is shared by all cores; a [`Client`] is one core's own, with its connections and its view of the load,
//! so that no request waits for a lock that another core holds.

mod balance;
mod body;
mod breaker;
mod caps;
mod choice;
mod client;
mod config;
mod connect;
mod discovery;
mod drain;
mod endpoint;
mod error;
mod forward;
mod gather;
pub mod grpc;
mod health;
mod hedge;
mod http1;
mod http2;
mod lane;
mod load;
mod metrics;
mod retry;
mod roster;
#[cfg(test)]
mod simulation;
mod stack;
mod standing;
mod stream;
mod tls;
mod trace;
mod upstream;
mod verdict;

pub use balance::Balance;
pub use body::{Body, BoxError, EditTrailers, Watch, Way};
pub use breaker::{Breaker, BreakerState};
pub use caps::Caps;
pub use client::{Client, Options};
pub use config::{Config, ConfigError, Health, Protocol};
pub use discovery::{Answer, Discovery, Dns, Resolve, Source, Target};
pub use endpoint::Endpoint;
pub use error::{Error, ErrorKind};
pub use hedge::{After, Hedge};
pub use retry::{On, Retry};
pub use standing::Ejection;
pub use tls::{Identity, Tls};
pub use upstream::Upstream;
