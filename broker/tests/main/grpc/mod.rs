//! The bus over gRPC, over real sockets.

mod access;
mod admin;
mod claim;
mod consume;
mod drain;
pub mod fleet;
mod publish;
mod subscribe;
