//! What a route does with a request that passed the pipeline. One file an action.
//!
//! transcode/    JSON ↔ gRPC, unary and server streaming      aggregate/  several calls, one answer
//! proxy/        HTTP, WebSocket, SSE, gRPC passed through    session.rs  log in, who am I, log out
//! respond.rs    a fixed answer                               redirect.rs another place
//! document.rs   what the gateway says of itself
//!
//! Each is compiled once, when the configuration loads, and immutable from then on. Compiling finds every mistake that
//! can be found before a request comes and reports all of them.

pub mod aggregate;
mod body;
pub(crate) mod document;
pub mod duration;
pub mod edit;
mod metadata;
pub mod proxy;
pub(crate) mod query;
pub mod redirect;
pub mod respond;
pub(crate) mod rpc_status;
pub mod session;
pub mod split;
mod status;
pub(crate) mod template;
pub mod transcode;

pub use aggregate::Aggregate;
pub(crate) use body::collect;
pub use document::Document;
pub use proxy::Proxy;
pub use redirect::Redirect;
pub use respond::Respond;
pub use session::Session;
pub use split::Split;
pub use transcode::Transcode;

use std::future::ready;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use prost_reflect::{MethodDescriptor, prost_types::method_options::IdempotencyLevel};
use upstream::Body;

use crate::{
    context::RequestContext,
    error::Error,
    worker::{UpstreamId, Worker},
};

/// The last step of a request's way through the gateway.
pub enum Action {
    Transcode(Transcode),
    Aggregate(Aggregate),
    Proxy(Proxy),
    Respond(Respond),
    Redirect(Redirect),
    Session(Session),
    Document(Document),
}

impl Action {
    /// Answers the request.
    ///
    /// # Errors
    /// Whatever the client or the upstream did wrong, for the rescue layer to turn into a problem document.
    pub fn call<'a>(
        &'a self,
        worker: &'a Worker,
        request: Request<Body>,
        context: &'a RequestContext,
    ) -> BoxFuture<'a, Result<Response<Body>, Error>> {
        // Each in a box of its own: in one future they would all be as large as the largest.
        match self {
            Self::Transcode(action) => Box::pin(action.call(worker, request, context)),
            Self::Aggregate(action) => Box::pin(action.call(worker, request, context)),
            Self::Proxy(action) => Box::pin(action.call(worker, request, context)),
            Self::Respond(action) => Box::pin(ready(Ok(action.call()))),
            Self::Redirect(action) => Box::pin(ready(action.call(&request.into_parts().0, context))),
            Self::Session(action) => Box::pin(action.call(worker, request, context)),
            Self::Document(action) => Box::pin(ready(action.call(&request.into_parts().0, context))),
        }
    }
}

/// Whom an action asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asks {
    pub upstream: UpstreamId,
    /// Its share of the requests, 0 to 1.
    pub share: f64,
    /// It gets copies, and nobody waits for it.
    pub mirrors: bool,
}

impl Action {
    /// Every upstream that a request could reach.
    pub fn asks(&self) -> Vec<Asks> {
        let shares = |split: &Split| {
            split.shares().map(|(upstream, share)| Asks { upstream, share, mirrors: false }).collect::<Vec<_>>()
        };
        match self {
            Self::Transcode(action) => shares(action.upstream()),
            Self::Proxy(action) => {
                let mirror = action.mirror().map(|mirror| {
                    let share = mirror.percent() / 100.0;
                    Asks { upstream: mirror.upstream(), share, mirrors: true }
                });
                shares(action.upstream()).into_iter().chain(mirror).collect()
            }
            Self::Aggregate(action) => action.upstreams().flat_map(|upstream| shares(&upstream.into())).collect(),
            Self::Session(action) => shares(&action.upstream().into()),
            Self::Respond(_) | Self::Redirect(_) | Self::Document(_) => Vec::new(),
        }
    }
}

/// What is wrong with an action's configuration; `path` is relative to the action's section (empty: the section itself).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    pub path: String,
    pub message: String,
}

impl ConfigError {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// The path of a gRPC method: `/package.Service/Method`.
fn grpc_path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// Whether the method's `idempotency_level` says that a repeated call does no harm.
fn is_idempotent(method: &MethodDescriptor) -> bool {
    let options = method.method_descriptor_proto().options.as_ref();
    options.is_some_and(|options| options.idempotency_level() != IdempotencyLevel::IdempotencyUnknown)
}

/// Whether the method's `idempotency_level` says that a call has no effect.
fn is_safe(method: &MethodDescriptor) -> bool {
    let options = method.method_descriptor_proto().options.as_ref();
    options.is_some_and(|options| options.idempotency_level() == IdempotencyLevel::NoSideEffects)
}

/// A variable of the matched path.
fn variable<'a>(context: &'a RequestContext, name: &str) -> Option<&'a str> {
    context.variables.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.as_str())
}
