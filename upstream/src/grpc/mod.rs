//! gRPC over HTTP/2, framed here: a call costs no more than its stream.

use bytes::Bytes;
use http::HeaderMap;

/// A gRPC status (<https://grpc.io/docs/guides/status-codes/>), with its details still encoded (`grpc-status-details-bin`, a google.rpc.Status).
#[derive(Clone, Debug)]
pub struct Status {
    pub code: i32,
    pub message: String,
    pub details: Bytes,
    pub metadata: HeaderMap,
    /** Set where the status was made here because no answer came. */
    pub local: Option<crate::ErrorKind>,
}

/// The answer to a unary call.
#[derive(Debug)]
pub struct Reply {
    pub metadata: HeaderMap,
    pub message: Bytes,
    pub trailers: HeaderMap,
}

/// The answers of a server-streaming call.
pub struct Streaming {
    pub metadata: HeaderMap,
}

impl Streaming {
    /// The next message; None after an OK status.
    pub async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        todo!()
    }
}
