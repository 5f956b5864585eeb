#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod library;
mod transcode_request;
mod transcode_response;
mod transcode_stream;
