//! `limits:` and `cors:`, what holds before any route is known.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Patience, Size, http2::Http2};
use crate::action::duration;

/// Every bound of the edge, with its default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections a listener; 10,000.
    pub connections: usize,
    /// Open connections a client address (IPv6: a /64 network); 0: as many as it likes. Default 100, and no bound for
    /// loopback addresses; trusted proxies have none.
    pub connections_per_address: Option<usize>,
    /// Requests being answered at once; more get a 503. 10,000, an equal share for each core.
    pub in_flight: usize,
    /// Bytes of a proxied request body; 10 MiB.
    pub body: Size,
    /// Bytes of a JSON request body; 1 MiB.
    pub json_body: Size,
    /// Bytes of all request headers together; 60 KiB.
    pub headers: Size,
    /// Number of request headers; 100.
    pub header_count: usize,
    /// Bytes of one request header; 8 KiB.
    pub header: Size,
    /// Bytes of path and query; 8 KiB.
    pub uri: Size,
    /// Of each HTTP/2 connection.
    pub http2: Http2,
    /// How long a client may take.
    pub patience: Patience,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: None,
            in_flight: 10_000,
            body: Size::mib(10),
            json_body: Size::mib(1),
            headers: Size::kib(60),
            header_count: 100,
            header: Size::kib(8),
            uri: Size::kib(8),
            http2: Http2::default(),
            patience: Patience::default(),
        }
    }
}

/// `cors: { origins: ["https://app.example"] }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// `https://app.example`, `https://*.app.example`, or `*` alone.
    pub origins: Vec<String>,
    /// What a page may send; by default all usual methods.
    #[serde(default = "methods")]
    pub methods: Vec<String>,
    /// Request headers a page may set beside the harmless ones.
    #[serde(default = "headers")]
    pub headers: Vec<String>,
    /// Response headers a page may read.
    #[serde(default = "expose")]
    pub expose: Vec<String>,
    /// Whether a page may send cookies.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight; default 10 min.
    #[serde(default = "max_age", deserialize_with = "duration::deserialize")]
    pub max_age: Duration,
}

fn methods() -> Vec<String> {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned).to_vec()
}

fn headers() -> Vec<String> {
    [
        "content-type",
        "authorization",
        "x-api-key",
        "if-match",
        "if-none-match",
        "idempotency-key",
        "prefer",
        "x-request-id",
        "traceparent",
        "tracestate",
        // Of gRPC-Web.
        "x-grpc-web",
        "x-user-agent",
        "grpc-timeout",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn expose() -> Vec<String> {
    [
        "etag",
        "location",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "x-request-id",
        "idempotency-replayed",
        // Of a poll of the bus: where to go on, and whether that is all there was.
        "turnpike-cursor",
        "turnpike-caught-up",
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn max_age() -> Duration {
    Duration::from_secs(600)
}
