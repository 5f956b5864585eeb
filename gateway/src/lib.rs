//! The API gateway: HTTP in; gRPC, HTTP and WebSocket out. Knows no shop: everything it does follows from its
//! configuration and from descriptors.

pub mod action;
pub mod context;
pub mod descriptors;
pub mod error;
mod problem;
pub mod worker;

pub use upstream::{Body, BoxError};
