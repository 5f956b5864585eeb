use crate::{Body, Error};
use std::time::Instant;

/// One core's way to an upstream: balances over healthy endpoints, pools connections, retries where it is safe.
#[derive(Clone)]
pub struct Client(std::sync::Arc<()>);

/// How one request is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The moment after which nobody waits for the answer.
    pub deadline: Option<Instant>,
    /// Repeating the request can't do more than doing it once: it may be tried again after it was sent. Without it, only what provably never reached the service is tried again.
    pub idempotent: bool,
}

impl Client {
    /// Sends an HTTP request (for gRPC with framed body use [`Client::unary`] or [`Client::streaming`]). The URI's authority is
    /// replaced by the endpoint's; an upgrade (WebSocket) passes through as `hyper::upgrade` on the response.
    pub async fn send(&self, _request: http::Request<Body>, _options: Options) -> Result<http::Response<Body>, Error> {
        let _ = &self.0;
        todo!()
    }
    /// A unary gRPC call with an encoded message. `grpc-timeout` is set from the deadline.
    pub async fn unary(
        &self,
        _path: &str,
        _metadata: http::HeaderMap,
        _message: bytes::Bytes,
        _options: Options,
    ) -> Result<crate::grpc::Reply, crate::grpc::Status> {
        todo!()
    }
    /// A server-streaming gRPC call: the messages as they come; ends with the status.
    pub async fn streaming(
        &self,
        _path: &str,
        _metadata: http::HeaderMap,
        _message: bytes::Bytes,
        _options: Options,
    ) -> Result<crate::grpc::Streaming, crate::grpc::Status> {
        todo!()
    }
}
// Also: `impl tower::Service<http::Request<tonic::body::Body>>` so that generated tonic clients run over it (order's clients.rs): behind
// a `grpc::Channel` newtype = Client + deadline handling from the request's `grpc-timeout`.
