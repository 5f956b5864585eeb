//! JSON over HTTP in, gRPC out, from descriptors alone (<https://google.aip.dev/127>).
//!
//! The request message is made of path variables, body, query and `If-Match`; the answer is proto3 JSON, or bytes where
//! the rule says `google.api.HttpBody`. Nothing is guessed: what isn't known is refused by name. Streams of both directions
//! flow as they come.

mod accept;
mod etag;
mod field;
mod mask;
mod raw;
mod request;
mod response;
mod stream;
mod upload;
mod values;

use std::sync::Arc;

use accept::Format;
use http::{HeaderMap, Request, Response};
use prost_reflect::MethodDescriptor;
use schemars::JsonSchema;
use serde::Deserialize;
use stream::Form;
use tokio::time::timeout_at;
use upstream::{Body, Options, grpc};

use super::{ConfigError, body, metadata::Forward, split::Split, status};
use crate::{
    context::RequestContext,
    descriptors::{Binding, Stale},
    error::{Error, ErrorKind},
    problem::Occurrence,
    worker::Worker,
};

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

/// A code that says that the service doesn't know what its descriptors have.
const UNIMPLEMENTED: i32 = 12;

pub struct Transcode {
    upstream: Split,
    method: MethodDescriptor,
    /// `/package.Service/Method`.
    path: String,
    request: Arc<request::Plan>,
    response: Arc<response::Plan>,
    forward: Forward,
    idempotent: bool,
    /// It may be called twice at once.
    safe: bool,
    streams: Streams,
    /// Whom to tell that the service is another than was thought.
    stale: Option<Stale>,
}

/// Which ends of the call are streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Streams {
    Neither,
    Answers,
    Requests,
    Both,
}

impl Transcode {
    /// Compiles one binding of an annotated method.
    ///
    /// # Errors
    /// A variable or body that names no field that it could fill, a header or location that can't be.
    pub fn new(binding: &Binding, upstream: impl Into<Split>, config: &Config) -> Result<Self, Vec<ConfigError>> {
        let method = &binding.method;
        let mut errors = Vec::new();
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
            method: method.clone(),
            path: super::grpc_path(method),
            request: Arc::new(request),
            response: Arc::new(response),
            forward,
            idempotent: super::is_idempotent(method),
            safe: super::is_safe(method),
            streams: match (method.is_client_streaming(), method.is_server_streaming()) {
                (false, false) => Streams::Neither,
                (false, true) => Streams::Answers,
                (true, false) => Streams::Requests,
                (true, true) => Streams::Both,
            },
            stale: None,
        })
    }

    /// Has it told where the service doesn't know the method.
    #[must_use]
    pub fn telling(self, stale: Option<Stale>) -> Self {
        Self { stale, ..self }
    }

    pub fn upstream(&self) -> &Split {
        &self.upstream
    }

    /// The method that is called.
    pub fn method(&self) -> &MethodDescriptor {
        &self.method
    }

    pub async fn call(
        &self,
        worker: &Worker,
        request: Request<Body>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let form = self.form(request.headers())?;
        let (head, body) = request.into_parts();
        let given = request::Given { method: &head.method, headers: &head.headers, query: head.uri.query(), context };
        let metadata = self.forward.metadata(&head.headers, context);
        let upstream = self.upstream.choose(&head.headers, context);
        let (client, hash) = (worker.client(upstream), worker.key(upstream, &head.headers, context));
        let safe = self.safe || head.method.is_safe();
        let idempotent = self.idempotent || safe;
        if self.streams == Streams::Neither {
            let message = self.message(&given, body).await?;
            let options = Options { deadline: Some(context.deadline), idempotent, safe, hash };
            let reply = client.unary(&self.path, metadata, message, options).await;
            let reply = reply.map_err(|status| self.failed(&status))?;
            return self.response.response(&head.method, &head.headers, reply.message);
        }
        let (messages, fault) = match self.streams {
            Streams::Requests | Streams::Both => upload::messages(&self.request, &given, body, context)?,
            Streams::Answers | Streams::Neither => {
                let message = self.message(&given, body).await?;
                let framed = grpc::frame(&message).map_err(|status| self.failed(&status))?;
                (framed.into(), upload::Fault::default())
            }
        };
        // The deadline is for the beginning; how long a stream goes on is for its two ends to decide.
        let options = Options { deadline: None, idempotent, hash, ..Options::default() };
        let beginning = timeout_at(context.deadline.into(), async {
            let answers = client.call(&self.path, metadata, messages, options).await?;
            if self.streams == Streams::Requests {
                answers.only().await.map(Answer::One)
            } else {
                Ok(Answer::Stream(answers))
            }
        });
        let answer = match beginning.await {
            Ok(answer) => answer.map_err(|status| fault.or(|| self.failed(&status)))?,
            Err(_) => return Err(fault.or(|| Error::new(ErrorKind::Timeout, "the service took too long"))),
        };
        match answer {
            Answer::One(reply) => self.response.response(&head.method, &head.headers, reply.message),
            Answer::Stream(answers) => {
                let occurrence = Occurrence::new(context, head.uri);
                stream::respond(answers, &self.response, form, occurrence, fault, context.deadline).await
            }
        }
    }

    /// How the answer is written.
    fn form(&self, headers: &HeaderMap) -> Result<Form, Error> {
        if self.response.is_raw() {
            return Ok(Form::Raw);
        }
        let formats: &[Format] = match self.streams {
            Streams::Answers | Streams::Both => &[Format::Json, Format::NdJson, Format::Sse],
            Streams::Neither | Streams::Requests => &[Format::Json],
        };
        accept::negotiate(headers, formats).map(Form::Of)
    }

    /// The one message that the request is.
    async fn message(&self, given: &request::Given<'_>, body: Body) -> Result<bytes::Bytes, Error> {
        let body = if self.request.takes_raw() {
            body::collect(body, given.context).await?
        } else {
            body::json(given.headers, body, given.context).await?
        };
        self.request.message(given, &body).map(Into::into)
    }

    fn failed(&self, status: &grpc::Status) -> Error {
        if status.code == UNIMPLEMENTED
            && let Some(stale) = &self.stale
        {
            stale.tell();
        }
        status::error(status)
    }
}

enum Answer {
    One(grpc::Reply),
    Stream(grpc::Streaming),
}
