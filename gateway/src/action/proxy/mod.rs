//! Passes a request on: HTTP/1.1, HTTP/2, SSE, gRPC with trailers, WebSocket.

use std::time::Duration;

use http::{Request, Response};
use serde::Deserialize;
use upstream::Body;

use super::{ConfigError, duration};
use crate::{
    context::RequestContext,
    error::Error,
    worker::{UpstreamId, Worker},
};

/// `proxy: broker`, or a mapping where more is to be said.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub upstream: String,
    #[serde(default)]
    pub rewrite: Option<Rewrite>,
    /// How long a stream (WebSocket, SSE, gRPC) may be silent; default 300 s.
    #[serde(default = "stream_idle", deserialize_with = "duration::deserialize")]
    pub idle_timeout: Duration,
}

/// What path the upstream sees; the query is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Rewrite {
    /// Stands in for the literal segments before the first variable of the route's template: `/api/{rest=**}` with
    /// prefix `/v1` makes `/v1/…`.
    Prefix(String),
    /// The whole path; `{name}` is a variable of the route.
    Path(String),
}

fn stream_idle() -> Duration {
    Duration::from_secs(300)
}

pub struct Proxy {
    upstream: UpstreamId,
}

impl Proxy {
    /// `template` is the route's path template (for `rewrite.prefix`), `variables` its variables. The caller resolves
    /// `config.upstream`.
    ///
    /// # Errors
    /// A rewrite that isn't an absolute path or names a variable the route doesn't have.
    pub fn new(
        _config: &Config,
        upstream: UpstreamId,
        _template: &str,
        _variables: &[&str],
    ) -> Result<Self, Vec<ConfigError>> {
        let _ = Self { upstream };
        todo!()
    }

    pub async fn call(
        &self,
        worker: &Worker,
        _request: Request<Body>,
        _context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let _ = worker.client(self.upstream);
        todo!()
    }
}
