//! What a route does with a request that passed the pipeline. One file an action.
//!
//! transcode/    JSON ↔ gRPC, unary and server streaming      aggregate/  several calls, one answer
//! proxy/        HTTP, WebSocket, SSE, gRPC passed through    session.rs  log in, who am I, log out
//! respond.rs    a fixed answer                               redirect.rs another place
//!
//! Each is compiled once, when the configuration loads, and immutable from then on. Compiling finds every mistake that
//! can be found before a request comes and reports all of them.

pub mod aggregate;
mod body;
pub mod duration;
mod message;
mod metadata;
pub mod proxy;
pub mod query;
pub mod redirect;
pub mod respond;
pub(crate) mod rpc_status;
pub mod session;
mod status;
mod template;
pub mod transcode;

pub use aggregate::Aggregate;
pub(crate) use body::collect;
pub use proxy::Proxy;
pub use redirect::Redirect;
pub use respond::Respond;
pub use session::Session;
pub use transcode::Transcode;

use std::future::ready;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use prost_reflect::{MethodDescriptor, prost_types::method_options::IdempotencyLevel};
use upstream::Body;

use crate::{context::RequestContext, error::Error, worker::Worker};

/// The last step of a request's way through the gateway.
pub enum Action {
    Transcode(Transcode),
    Aggregate(Aggregate),
    Proxy(Proxy),
    Respond(Respond),
    Redirect(Redirect),
    Session(Session),
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
            Self::Redirect(action) => Box::pin(ready(action.call(&request, context))),
            Self::Session(action) => Box::pin(action.call(worker, request, context)),
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

/// A variable of the matched path.
fn variable<'a>(context: &'a RequestContext, name: &str) -> Option<&'a str> {
    context.variables.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.as_str())
}
