//! The bus over gRPC, over real sockets.

mod access;
mod admin;
mod claim;
mod consume;
mod drain;
mod fleet;
mod publish;
mod subscribe;
