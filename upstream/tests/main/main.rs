//! The crate against real services on real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod balance;
mod channel;
mod deadline;
mod discovery;
mod dns;
mod drain;
mod faults;
mod grpc;
mod health;
mod hedge;
mod http1;
mod http2;
mod kill;
mod metrics;
mod name_server;
mod proxy;
mod retry;
mod service;
mod stream;
mod tls;
mod unfit;
