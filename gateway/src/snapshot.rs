//! A configuration, compiled: immutable, built whole, swapped whole. Requests in flight finish on the one they began with.

use std::{collections::HashMap, sync::Arc};

use tokio_util::sync::CancellationToken;
use upstream::Upstream;

use crate::{
    config::{Authentication, Limits, Listener, Shared},
    layers::{cors, security_headers},
    limit::{Limiter, Policies},
    route::{Conditions, Route, Table},
};

pub struct Snapshot {
    /// 1 for the first, one more for each that took its place.
    pub generation: u64,
    pub listeners: Vec<Listener>,
    pub authentication: Authentication,
    pub shared: Shared,
    pub table: Table<Route>,
    /// Every route that can be taken, explicit ones first, for operators.
    pub routes: Vec<Listed>,
    /// By [`crate::worker::UpstreamId`].
    pub upstreams: Vec<Arc<Running>>,
    /// Every rate limit by where it stands, so that the next snapshot takes over those that stay.
    pub limiters: HashMap<String, Arc<Limiter>>,
    pub edge: Edge,
    /// What is no mistake, but good to know.
    pub notes: Vec<String>,
}

/// What holds before a route is known.
pub struct Edge {
    pub cors: Option<Arc<cors::Config>>,
    pub security_headers: security_headers::Config,
    pub client_limits: Policies,
    pub limits: Arc<Limits>,
    pub access_log: bool,
}

/// A route as it stands in the table.
pub struct Listed {
    pub template: String,
    pub conditions: Conditions,
    pub route: Arc<Route>,
}

/// An upstream and its health checks, which end with the last snapshot that has it.
pub struct Running {
    pub config: upstream::Config,
    pub upstream: Upstream,
    pub stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
