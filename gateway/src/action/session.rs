//! `POST` logs in, `GET` says who one is, `DELETE` logs out. What a session is and where it lives is the store's affair.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response};
use principal::Principal;
use serde::Deserialize;
use time::OffsetDateTime;
use upstream::Body;

use crate::{
    context::RequestContext,
    error::Error,
    worker::{UpstreamId, Worker},
};

/// Where credentials are checked: `session: { upstream: customer }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub upstream: String,
    /// A method with the contract of `turnpike.auth.v1.Authenticator/Authenticate`, which is the default.
    #[serde(default = "authenticate")]
    pub login: String,
}

fn authenticate() -> String {
    "turnpike.auth.v1.Authenticator/Authenticate".to_owned()
}

/// What this action needs of the session store.
#[async_trait::async_trait]
pub trait Sessions: Send + Sync {
    /// Opens a session and ends the one that `headers` (of the log-in request) carry, if any. The `Set-Cookie` value
    /// goes to the client.
    async fn open(&self, principal: Principal, headers: &HeaderMap) -> Result<Opened, Error>;
    /// The live session that the request's cookie names.
    async fn find(&self, headers: &HeaderMap) -> Result<Option<Found>, Error>;
    /// Ends the session that the request's cookie names, if there is one; the value is the `Set-Cookie` that clears it.
    async fn close(&self, headers: &HeaderMap) -> Result<HeaderValue, Error>;
}

/// A session just opened.
pub struct Opened {
    pub set_cookie: HeaderValue,
    pub expires: OffsetDateTime,
}

/// A session that is still open.
pub struct Found {
    pub principal: Principal,
    pub expires: OffsetDateTime,
}

pub struct Session {
    upstream: UpstreamId,
    sessions: Arc<dyn Sessions>,
}

impl Session {
    /// The caller resolves `config.upstream`.
    pub fn new(
        _config: &Config,
        upstream: UpstreamId,
        sessions: Arc<dyn Sessions>,
    ) -> Result<Self, Vec<super::ConfigError>> {
        let _ = Self { upstream, sessions };
        todo!()
    }

    pub async fn call(
        &self,
        worker: &Worker,
        _request: Request<Body>,
        _context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let _ = (worker.client(self.upstream), &self.sessions);
        todo!()
    }
}
