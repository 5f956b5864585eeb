//! A broker on a real bus, asked over real sockets.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod admin;
mod asyncapi;
mod awaited;
mod bridge;
mod confirm;
mod follow;
mod grpc;
mod jobs;
mod journal;
mod later;
mod openapi;
mod overload;
mod publish;
mod site;
mod webhooks;
mod work;
