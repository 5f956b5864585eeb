//! Which route a request takes: its path brought into one form (`path`), compared with templates (`template`) in a trie
//! (`table`), then told apart by `condition` among those with one path (`ends`). Routes that stand in each other's way are
//! found when they load (`conflict`).

mod condition;
mod conflict;
mod ends;
#[cfg(test)]
mod grammar;
mod host;
#[cfg(test)]
mod oracle;
mod path;
mod table;
mod template;

pub use condition::{Conditions, Wanted};
pub use conflict::{Conflict, Kind};
pub use host::{check_host, named as host};
pub use path::normalise;
pub use table::{Candidate, Match, Table};
pub use template::{Segment, Template};

use std::{sync::Arc, time::Duration};

use crate::{
    action::{Action, edit::Edit},
    address::Lists,
    auth::{Kinds, rule::Rule},
    cache,
    config::Idempotency,
    layers::{cors, security_headers},
    limit::{Concurrency, Policies},
    metrics::RouteMetrics,
    openapi::Described,
};

/// A route, compiled: what a request that takes it must be, and what is done with it.
pub struct Route {
    /// How metrics, logs and operators call it: `GET /products/{id}` unless it has a name of its own.
    pub id: Arc<str>,
    pub policy: Policy,
    pub action: Action,
    /// What is changed in the header before and after the action.
    pub request_headers: Edit,
    pub response_headers: Edit,
    /// The upstream of an action that calls only one.
    pub upstream: Option<Arc<str>>,
    /// For the ops listener: `transcode`, `proxy`, …
    pub kind: &'static str,
    /// Comes from an annotation in a descriptor, not from the file.
    pub derived: bool,
    /// For the OpenAPI document.
    pub described: Described,
    pub metrics: RouteMetrics,
}

/// A core's own handle of a route. Every request counts references to it, and a counter that cores share costs them more
/// than finding the route.
pub struct Local(pub Arc<Route>);

impl std::ops::Deref for Local {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.0
    }
}

/// What a request must be and have before the action sees it.
pub struct Policy {
    pub authenticate: Authenticate,
    /// The kinds of credentials that are taken.
    pub accepts: Kinds,
    pub scopes: Scopes,
    /// What the caller must have beside scopes.
    pub rule: Option<Arc<Rule>>,
    /// The upstream gets the caller's credential, too.
    pub forward_credentials: bool,
    pub timeout: Duration,
    /// The most bytes a request body may have.
    pub body: u64,
    /// The same where it is read whole before anything is done with it.
    pub whole_body: u64,
    pub rate_limits: Policies,
    pub concurrency: Arc<[Arc<Concurrency>]>,
    /// None: it may be called from everywhere.
    pub addresses: Option<Arc<Lists>>,
    /// None: `Idempotency-Key` is the upstream's affair.
    pub idempotency: Option<Idempotency>,
    /// None: nothing is kept.
    pub cache: Option<Arc<cache::Policy>>,
    /// Whether answers may be compressed.
    pub compression: bool,
    /// Whether the action gets bodies out of their content coding.
    pub decompress: bool,
    pub cors: cors::OfRoute,
    /// None: those that hold everywhere.
    pub security_headers: Option<security_headers::Config>,
}

/// Whether a route asks who is calling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Authenticate {
    /// 401 without a credential.
    Required,
    /// Whoever brings a credential is known by it; nobody has to.
    #[default]
    Optional,
    /// Credentials are not looked at.
    None,
}

/// Scopes a principal must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scopes {
    #[default]
    None,
    All(Vec<String>),
    Any(Vec<String>),
}

impl Scopes {
    pub fn allow(&self, principal: &principal::Principal) -> bool {
        match self {
            Self::None => true,
            Self::All(scopes) => scopes.iter().all(|scope| principal.has_scope(scope)),
            Self::Any(scopes) => scopes.iter().any(|scope| principal.has_scope(scope)),
        }
    }
}
