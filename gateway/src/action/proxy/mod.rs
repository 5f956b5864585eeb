//! Passes a request on: HTTP/1.1, HTTP/2, SSE, gRPC with trailers, WebSocket.
//!
//! Bodies flow both ways as they come, trailers included. The request's deadline is for the answer's head; from then on a
//! body may take as long as it likes, but not be silent for longer than the idle timeout. An upgrade other than to
//! WebSocket is not passed on. To a service of gRPC, callers of gRPC-Web come as callers of gRPC.

pub mod config;
mod grpc_web;
mod headers;
mod idle;
pub mod mirror;
mod rewrite;
mod upgrade;

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use upstream::{Body, Options};

use super::{ConfigError, split::Split, status};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
    route,
    worker::Worker,
};
pub use config::Config;
pub use mirror::Mirror;
use rewrite::Rewrite;

pub struct Proxy {
    upstream: Split,
    rewrite: Option<Rewrite>,
    mirror: Option<Mirror>,
    idle_timeout: Duration,
    /// The upstream speaks gRPC alone.
    is_grpc: bool,
}

impl Proxy {
    /// `template` is the route's path template. The caller resolves the upstreams.
    ///
    /// # Errors
    /// A rewrite that can't be, or no time to be silent.
    pub fn new(
        config: &Config,
        upstream: impl Into<Split>,
        mirror: Option<Mirror>,
        template: &str,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let template = route::Template::parse(template).map_err(|message| vec![ConfigError::new("", message)])?;
        let rewrite = config.rewrite.as_ref().map(|rewrite| Rewrite::new(rewrite, &template));
        let rewrite = rewrite.transpose().map_err(|found| errors.extend(found)).ok();
        if config.idle_timeout.is_zero() {
            errors.push(ConfigError::new("idle_timeout", "must be above 0"));
        }
        match rewrite {
            Some(rewrite) if errors.is_empty() => {
                let (upstream, idle_timeout) = (upstream.into(), config.idle_timeout);
                Ok(Self { upstream, rewrite, mirror, idle_timeout, is_grpc: false })
            }
            _ => Err(errors),
        }
    }

    /// Whether the upstream speaks gRPC alone: callers in gRPC-Web are translated then.
    #[must_use]
    pub fn speaking_grpc(self, is_grpc: bool) -> Self {
        Self { is_grpc, ..self }
    }

    pub fn upstream(&self) -> &Split {
        &self.upstream
    }

    pub fn mirror(&self) -> Option<&Mirror> {
        self.mirror.as_ref()
    }

    pub async fn call(
        &self,
        worker: &Worker,
        mut request: Request<Body>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        // By what the client sent, before anything of it is changed.
        let upstream = self.upstream.choose(request.headers(), context);
        let hash = worker.key(upstream, request.headers(), context);
        if let Some(rewrite) = &self.rewrite {
            *request.uri_mut() = rewrite.target(request.uri(), context)?;
        }
        let web = if self.is_grpc { grpc_web::translate(&mut request) } else { None };
        let upgrade = upgrade::Request::take(&mut request);
        headers::forward(&mut request, context);
        if let Some(rewrite) = &self.rewrite {
            let (mut head, body) = request.into_parts();
            rewrite.host(&mut head.uri, &mut head.headers);
            request = Request::from_parts(head, body);
        }
        match (&upgrade, &self.mirror) {
            (Some(upgrade), _) => upgrade.restore(request.headers_mut()),
            (None, Some(mirror)) => request = mirror.copy(worker, request, context),
            (None, None) => {}
        }
        let options = Options {
            deadline: Some(context.deadline),
            idempotent: is_idempotent(request.method()),
            // Another protocol begins once.
            safe: upgrade.is_none() && request.method().is_safe(),
            hash,
        };
        let sent = worker.client(upstream).send(request, options).await;
        let mut response = sent.map_err(|error| status::no_answer(&error))?;
        headers::backward(response.headers_mut());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match upgrade {
                Some(upgrade) => upgrade.join(response, self.idle_timeout, &context.outcome),
                None => Err(Error::new(ErrorKind::BadGateway, "the service gave no valid answer")
                    .cause("101 to a request without an upgrade")),
            };
        }
        let response = response.map(|body| idle::bounded(body, self.idle_timeout));
        Ok(match web {
            Some(answer) => answer.translate(response),
            None => response,
        })
    }
}

/// RFC 9110, section 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    method.is_safe() || *method == Method::PUT || *method == Method::DELETE
}
