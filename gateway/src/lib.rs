//! The API gateway: HTTP in; gRPC, HTTP and WebSocket out. Knows no shop: everything it does follows from its
//! configuration and from descriptors.

mod action;
mod context;
mod error;
mod problem;
mod worker;

pub use upstream::{Body, BoxError};
