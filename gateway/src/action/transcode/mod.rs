//! JSON over HTTP in, gRPC out, from descriptors alone (<https://google.aip.dev/127>).

use http::{Request, Response};
use serde::Deserialize;
use upstream::Body;

use super::ConfigError;
use crate::{
    context::RequestContext,
    descriptors::Binding,
    error::Error,
    worker::{UpstreamId, Worker},
};

/// What a route adds to its annotation. All of it is optional.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Request headers that reach the service as metadata. Default: `idempotency-key`, `prefer`, `accept-language`.
    pub forward_headers: Vec<String>,
    pub response: Option<ResponseConfig>,
}

/// `response: { status: 201, location: "/orders/{id}" }`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseConfig {
    /// The status of a successful answer, 200 to 299; default 200 (204 for `google.protobuf.Empty`).
    pub status: Option<u16>,
    /// The `Location` of what was made; `{field}` and `{nested.field}` name fields of the gRPC response.
    pub location: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            forward_headers: ["idempotency-key", "prefer", "accept-language"].map(str::to_owned).to_vec(),
            response: None,
        }
    }
}

pub struct Transcode {
    upstream: UpstreamId,
}

impl Transcode {
    /// Compiles one binding of an annotated method.
    ///
    /// # Errors
    /// Client streaming, a variable or body that names no field, a header or location that can't be.
    pub fn new(_binding: &Binding, upstream: UpstreamId, _config: &Config) -> Result<Self, Vec<ConfigError>> {
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
