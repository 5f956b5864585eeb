//! HTTP/1.1, served by our own codec.

use std::io;

use ::http1::{
    field,
    request::Limits as Head,
    server::{Service, serve as drive},
};
use upstream::Body;

use super::activity::Watched;
use crate::config::{Limits, Size};

/// What answers the requests of a connection.
pub trait Answers: Service<Body = Body, Future: Send> {}

impl<S: Service<Body = Body, Future: Send>> Answers for S {}

/// Serves one connection.
///
/// # Errors
/// How the connection broke.
pub async fn serve(io: Watched, service: impl Answers, limits: &Limits) -> io::Result<()> {
    drive(io, &service, &head(limits)).await
}

/// What the codec refuses at once. The layer `limits` asks again, by what is configured then.
fn head(limits: &Limits) -> Head {
    let bytes = |size: Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    let fields = field::Limits { total: bytes(limits.headers), count: limits.header_count, one: bytes(limits.header) };
    // A target may be absolute: scheme and authority come on top of path and query.
    const AUTHORITY: usize = 300;
    Head { target: bytes(limits.uri) + AUTHORITY, fields }
}
