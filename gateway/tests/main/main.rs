#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod aggregate;
mod authentication;
mod checking;
mod edge;
mod hostile;
mod idempotency;
mod library;
mod live;
mod proxy;
mod rate_limit;
mod reload;
mod reload_storm;
mod routing;
mod running;
mod session;
mod shared;
mod shutdown;
mod transcode_properties;
mod transcode_request;
mod transcode_response;
mod transcode_stream;
mod transcode_whole;
