//! What the pipeline has learnt of a request so far; travels in its extensions.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use principal::Principal;

/// Set by the first layers, read by the later ones and by the action.
#[derive(Clone)]
pub struct RequestContext {
    pub request_id: Arc<str>,
    pub trace: telemetry::TraceContext,
    pub client: SocketAddr,
    /// The moment after which nobody waits for the answer.
    pub deadline: Instant,
    pub principal: Option<Arc<Authenticated>>,
    /// Variables of the matched path template, decoded: (`product_id`, `42`).
    pub variables: Arc<[(Arc<str>, String)]>,
}

/// A principal with its signed token for upstreams (made once, reused while it is fresh).
#[derive(Debug)]
pub struct Authenticated {
    pub principal: Principal,
    /// The JWS for the `turnpike-principal` metadata.
    pub token: http::HeaderValue,
}
