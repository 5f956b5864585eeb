//! A configuration, compiled: immutable, built whole, swapped whole. Requests in flight finish on the one they began with.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use upstream::Upstream;

use crate::{
    access_log,
    action::split::Sticky,
    address::{Lists, Proxies},
    auth::{certificate::Certificates, jwt::Tokens},
    cache,
    config::{Authentication, Limits, Listener, Shared},
    layers::{compress, cors, security_headers},
    limit::{Concurrency, Limiter, Policies},
    openapi::Fragment,
    overload,
    route::{Conditions, Route, Table},
    tls::Terminator,
    worker::UpstreamId,
};

pub struct Snapshot {
    /// 1 for the first, one more for each that took its place.
    pub generation: u64,
    pub listeners: Vec<Listener>,
    /// Of each listener; None where it speaks plain HTTP.
    pub tls: Vec<Option<Arc<Terminator>>>,
    pub authentication: Authentication,
    /// Whose tokens are believed.
    pub tokens: Arc<Tokens>,
    /// Where certificates are taken for credentials.
    pub certificates: Option<Arc<Certificates>>,
    pub shared: Shared,
    pub cache: cache::Section,
    pub table: Table<Route>,
    /// Every route that can be taken, explicit ones first, for operators.
    pub routes: Vec<Listed>,
    /// By [`crate::worker::UpstreamId`].
    pub upstreams: Vec<Arc<Running>>,
    /// What each of them knows a request by, where its endpoint is chosen by that.
    pub keys: Arc<[Option<Sticky>]>,
    /// What the upstreams' TLS was read from.
    pub upstream_files: Vec<PathBuf>,
    /// Every rate limit by where it stands, so that the next snapshot takes over those that stay.
    pub limiters: HashMap<String, Arc<Limiter>>,
    /// Every limit on requests under way, in the order of the file.
    pub concurrency: Vec<Arc<Concurrency>>,
    /// Upstreams that are asked for their descriptors.
    pub reflected: Vec<Reflected>,
    /// What of the configuration can't be served yet, because its descriptors aren't known: where it stands, and why.
    pub awaited: Vec<(String, String)>,
    /// Descriptor sets and rules that were read from files.
    pub read: Vec<PathBuf>,
    /// What services say of themselves that are passed through, by the name of the upstream.
    pub descriptions: BTreeMap<String, Fragment>,
    pub edge: Edge,
    /// What is no mistake, but good to know.
    pub notes: Vec<String>,
}

impl Snapshot {
    /// Whether another one can take its place on the sockets that are bound.
    pub fn listens_as(&self, other: &Self) -> bool {
        self.listeners.iter().map(|own| own.address).eq(other.listeners.iter().map(|other| other.address))
    }

    /// The certificates it shows, by name, and when each ends as a Unix time.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        let certificates = self.tls.iter().flatten().flat_map(|terminator| &terminator.certificates);
        certificates.map(|one| (one.name().to_owned(), one.not_after.unix_timestamp())).collect()
    }
}

/// What holds before a route is known.
pub struct Edge {
    pub cors: Option<Arc<cors::Config>>,
    pub compression: Option<compress::Config>,
    pub security_headers: security_headers::Config,
    pub client_limits: Policies,
    pub limits: Arc<Limits>,
    /// Whose word counts about who is behind them.
    pub proxies: Arc<Proxies>,
    /// Who may call at all; None: everybody.
    pub addresses: Option<Arc<Lists>>,
    pub overload: overload::Config,
    pub access_log: Option<access_log::Section>,
    pub analytics: bool,
}

/// An upstream that is asked for its descriptors.
#[derive(Clone, Debug)]
pub struct Reflected {
    pub upstream: String,
    pub id: UpstreamId,
    pub refresh: Duration,
    /// Where they are kept for the next start.
    pub cache: Option<PathBuf>,
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
