//! JSON over HTTP in, gRPC out, from descriptors alone (<https://google.aip.dev/127>).
//!
//! The request message is made of path variables, body, query and `If-Match`; the answer is proto3 JSON. Nothing is
//! guessed: what isn't known is refused by name. Messages are read by reflection; client streaming is refused when the
//! configuration loads.

mod accept;
mod etag;
mod mask;
mod request;
mod response;
mod stream;

use std::sync::Arc;

use accept::Format;
use http::{Request, Response};
use prost::Message as _;
use schemars::JsonSchema;
use serde::Deserialize;
use upstream::{Body, Options};

use super::{ConfigError, body, metadata::Forward, split::Split, status};
use crate::{context::RequestContext, descriptors::Binding, error::Error, problem::Occurrence, worker::Worker};

/// What a route adds to its annotation. All of it is optional.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Request headers that reach the service as metadata. Default: `idempotency-key`, `prefer`, `accept-language`.
    pub forward_headers: Vec<String>,
    pub response: Option<ResponseConfig>,
}

/// `response: { status: 201, location: "/orders/{id}" }`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Response")]
pub struct ResponseConfig {
    /// The status of a successful answer, 200 to 299; default 200 (204 for `google.protobuf.Empty`).
    #[serde(default)]
    pub status: Option<u16>,
    /// The `Location` of what was made; `{field}` and `{nested.field}` name fields of the gRPC response. Left out of an
    /// answer where one of them is empty.
    #[serde(default)]
    pub location: Option<String>,
}

/// The headers that are forwarded unless the configuration says otherwise.
pub const FORWARD_HEADERS: [&str; 3] = ["idempotency-key", "prefer", "accept-language"];

impl Default for Config {
    fn default() -> Self {
        Self { forward_headers: FORWARD_HEADERS.map(str::to_owned).to_vec(), response: None }
    }
}

pub struct Transcode {
    upstream: Split,
    /// `/package.Service/Method`.
    path: String,
    request: request::Plan,
    response: Arc<response::Plan>,
    forward: Forward,
    idempotent: bool,
    is_streaming: bool,
}

impl Transcode {
    /// Compiles one binding of an annotated method.
    ///
    /// # Errors
    /// Client streaming, a variable or body that names no field, a header or location that can't be.
    pub fn new(binding: &Binding, upstream: impl Into<Split>, config: &Config) -> Result<Self, Vec<ConfigError>> {
        let method = &binding.method;
        let mut errors = Vec::new();
        if method.is_client_streaming() {
            errors.push(ConfigError::new("", format!("{} streams requests, which JSON can't", method.full_name())));
        }
        let request = request::Plan::new(binding).map_err(|found| errors.extend(found)).ok();
        let response =
            response::Plan::new(binding, config.response.as_ref()).map_err(|found| errors.extend(found)).ok();
        let forward = Forward::new(&config.forward_headers).map_err(|found| errors.extend(found)).ok();
        let (Some(request), Some(response), Some(forward), true) = (request, response, forward, errors.is_empty())
        else {
            return Err(errors);
        };
        Ok(Self {
            upstream: upstream.into(),
            path: super::grpc_path(method),
            request,
            response: Arc::new(response),
            forward,
            idempotent: binding.http_method.is_safe() || super::is_idempotent(method),
            is_streaming: method.is_server_streaming(),
        })
    }

    pub fn upstream(&self) -> &Split {
        &self.upstream
    }

    pub async fn call(
        &self,
        worker: &Worker,
        request: Request<Body>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let formats: &[Format] =
            if self.is_streaming { &[Format::Json, Format::NdJson, Format::Sse] } else { &[Format::Json] };
        let format = accept::negotiate(request.headers(), formats)?;
        let (head, body) = request.into_parts();
        let body = body::json(&head.headers, body, context).await?;
        let message = self.request.message(&head.headers, head.uri.query(), &body, context)?;
        let message = message.encode_to_vec().into();
        let metadata = self.forward.metadata(&head.headers, context);
        let client = worker.client(self.upstream.choose(&head.headers, context));
        if self.is_streaming {
            let occurrence = Occurrence::new(context, head.uri);
            return stream::open(self, client, metadata, message, format, context.deadline, occurrence).await;
        }
        let options = Options { deadline: Some(context.deadline), idempotent: self.idempotent, ..Options::default() };
        let reply = client.unary(&self.path, metadata, message, options).await.map_err(|s| status::error(&s))?;
        self.response.response(&head.method, &head.headers, reply.message)
    }
}
