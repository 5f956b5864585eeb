//! Several gRPC calls in parallel, one JSON answer that says honestly which of them failed.

use std::{collections::BTreeMap, time::Duration};

use http::{Request, Response};
use serde::Deserialize;
use upstream::Body;

use super::{ConfigError, duration};
use crate::{context::RequestContext, descriptors::Directory, error::Error, worker::Worker};

/// `aggregate: [ { part, call, … }, … ]`, 1 to 16 parts.
pub type Config = Vec<PartConfig>;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartConfig {
    /// The part's member in the answer; `_meta` is taken.
    pub part: String,
    /// `package.Service/Method`, unary.
    pub call: String,
    /// Where it is called; default: the upstream of the route that serves the service (`grpc: package.Service`).
    #[serde(default)]
    pub upstream: Option<String>,
    /// Request fields: `"{id}"` is a variable of the route, `"{query.page}"` a query parameter, anything else a literal.
    /// Default: variables and query parameters whose names are fields.
    #[serde(default)]
    pub request: Option<BTreeMap<String, serde_json::Value>>,
    /// Its failure is the answer's failure. Default false: the part is its fallback, or null.
    #[serde(default)]
    pub required: bool,
    /// Only this field of the response.
    #[serde(default)]
    pub pick: Option<String>,
    /// Default 2 s; never beyond the request's deadline.
    #[serde(default, deserialize_with = "duration::option")]
    pub timeout: Option<Duration>,
    /// What stands in for the part when it fails.
    #[serde(default)]
    pub fallback: Option<serde_json::Value>,
}

pub struct Aggregate {
    parts: Vec<()>,
}

impl Aggregate {
    /// `variables` are those of the route's path template. Error paths start with the part's index: `[1].call`.
    ///
    /// # Errors
    /// Too many parts, a part named twice, a method, upstream, field or variable that isn't there, streaming.
    pub fn new(_config: &[PartConfig], _variables: &[&str], _directory: &Directory) -> Result<Self, Vec<ConfigError>> {
        todo!()
    }

    pub async fn call(
        &self,
        _worker: &Worker,
        _request: Request<Body>,
        _context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let _ = self.parts.len();
        todo!()
    }
}
