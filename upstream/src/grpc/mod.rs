//! gRPC over HTTP/2, framed here: a call costs no more than its stream. Messages are bytes; who knows their type encodes
//! and decodes them. Compression is neither offered nor taken.
//! Follows <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

#![expect(clippy::result_large_err, reason = "a status moves once a call; a box would be an allocation more")]

mod call;
mod channel;
mod message;
mod status;
mod timeout;

pub use call::{Reply, Streaming};
pub use channel::{Channel, Idempotent};
pub use message::frame;
pub use status::{Code, Status};

pub(crate) use call::{call, streaming, unary};
pub(crate) use status::{STATUS, code_name};
pub(crate) use timeout::{earliest, set_previous, set_timeout};
