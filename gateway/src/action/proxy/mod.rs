//! Passes a request on: HTTP/1.1, HTTP/2, SSE, gRPC with trailers, WebSocket.
//!
//! Bodies flow both ways as they come, trailers included. The request's deadline is for the answer's head; from then on a
//! body may take as long as it likes, but not be silent for longer than the idle timeout. An upgrade other than to
//! WebSocket is not passed on.

mod headers;
mod idle;
mod upgrade;

use std::{borrow::Cow, time::Duration};

use http::{Method, Request, Response, StatusCode, Uri, uri::PathAndQuery};
use serde::{Deserialize, Deserializer, de};
use upstream::{Body, Options};

use super::{
    ConfigError, duration, status,
    template::{self, Escape, Template},
};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
    worker::{UpstreamId, Worker},
};

/// `proxy: broker`, or a mapping where more is to be said.
#[derive(Clone, Debug)]
pub struct Config {
    pub upstream: String,
    pub rewrite: Option<Rewrite>,
    /// How long a body or a WebSocket may be silent; default 300 s.
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

pub struct Proxy {
    upstream: UpstreamId,
    rewrite: Option<Path>,
    idle_timeout: Duration,
}

/// A compiled [`Rewrite`].
enum Path {
    Prefix { literal: String, replacement: String },
    Whole(Template),
}

impl Proxy {
    /// `template` is the route's path template, `variables` its variables. The caller resolves `config.upstream`.
    ///
    /// # Errors
    /// A rewrite that isn't an absolute path or names a variable the route doesn't have.
    pub fn new(
        config: &Config,
        upstream: UpstreamId,
        template: &str,
        variables: &[&str],
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let rewrite = config.rewrite.as_ref().map(|rewrite| Path::new(rewrite, template, variables));
        let rewrite = rewrite.transpose().map_err(|error| errors.push(error)).ok();
        if config.idle_timeout.is_zero() {
            errors.push(ConfigError::new("idle_timeout", "must be above 0"));
        }
        match rewrite {
            Some(rewrite) if errors.is_empty() => Ok(Self { upstream, rewrite, idle_timeout: config.idle_timeout }),
            _ => Err(errors),
        }
    }

    pub async fn call(
        &self,
        worker: &Worker,
        mut request: Request<Body>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        if let Some(rewrite) = &self.rewrite {
            *request.uri_mut() = rewrite.apply(request.uri(), context)?;
        }
        let upgrade = upgrade::Request::take(&mut request);
        headers::forward(&mut request, context);
        if let Some(upgrade) = &upgrade {
            upgrade.restore(request.headers_mut());
        }
        let options = Options { deadline: Some(context.deadline), idempotent: is_idempotent(request.method()) };
        let sent = worker.client(self.upstream).send(request, options).await;
        let mut response = sent.map_err(|error| status::no_answer(&error))?;
        headers::backward(response.headers_mut());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match upgrade {
                Some(upgrade) => upgrade.join(response, self.idle_timeout),
                None => Err(Error::new(ErrorKind::BadGateway, "the service gave no valid answer")
                    .cause("101 to a request without an upgrade")),
            };
        }
        Ok(response.map(|body| idle::bounded(body, self.idle_timeout)))
    }
}

impl Path {
    fn new(rewrite: &Rewrite, template: &str, variables: &[&str]) -> Result<Self, ConfigError> {
        let (path, text) = match rewrite {
            Rewrite::Prefix(text) => ("rewrite.prefix", text),
            Rewrite::Path(text) => ("rewrite.path", text),
        };
        let wrong = |message: String| ConfigError::new(path, message);
        if !text.starts_with('/') || text.contains(['?', '#']) {
            return Err(wrong("must be an absolute path".to_owned()));
        }
        if matches!(rewrite, Rewrite::Path(_)) {
            return template::of_route(text, variables).map(Self::Whole).map_err(wrong);
        }
        PathAndQuery::try_from(text.as_str()).map_err(|_| wrong("must be an absolute path".to_owned()))?;
        let literal = template.split('{').next().unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self::Prefix { literal, replacement: text.trim_end_matches('/').to_owned() })
    }

    fn apply(&self, uri: &Uri, context: &RequestContext) -> Result<Uri, Error> {
        let mut path = match self {
            Self::Prefix { literal, replacement } => {
                let rest = uri.path().strip_prefix(literal.as_str()).unwrap_or_else(|| uri.path());
                let slash = if rest.is_empty() && replacement.is_empty() { "/" } else { "" };
                [replacement, slash, rest].concat()
            }
            Self::Whole(template) => template
                .expand(Escape::Path, |name| super::variable(context, name).map(Cow::Borrowed))
                .unwrap_or_else(|| uri.path().to_owned()),
        };
        if let Some(query) = uri.query() {
            path.push('?');
            path.push_str(query);
        }
        let mut parts = uri.clone().into_parts();
        let unfit = |error: String| Error::new(ErrorKind::BadRequest, "the path can't be rewritten").cause(error);
        parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|error| unfit(error.to_string()))?);
        Uri::from_parts(parts).map_err(|error| unfit(error.to_string()))
    }
}

/// RFC 9110, section 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    method.is_safe() || *method == Method::PUT || *method == Method::DELETE
}

const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Mapping {
            upstream: String,
            #[serde(default)]
            rewrite: Option<Rewrite>,
            #[serde(default, deserialize_with = "duration::option")]
            idle_timeout: Option<Duration>,
        }

        struct Either;

        impl<'de> de::Visitor<'de> for Either {
            type Value = Config;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("the name of an upstream, or a mapping with `upstream`")
            }

            fn visit_str<E>(self, upstream: &str) -> Result<Config, E> {
                Ok(Config { upstream: upstream.to_owned(), rewrite: None, idle_timeout: IDLE_TIMEOUT })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
                let mapping = Mapping::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let idle_timeout = mapping.idle_timeout.unwrap_or(IDLE_TIMEOUT);
                Ok(Config { upstream: mapping.upstream, rewrite: mapping.rewrite, idle_timeout })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(rewrite: Rewrite, template: &str, uri: &'static str) -> String {
        let mut context = RequestContext::new(
            "1".into(),
            telemetry::TraceContext::unsampled(),
            std::net::SocketAddr::from(([127, 0, 0, 1], 1)),
        );
        context.variables = [("rest".into(), "a b/c".to_owned())].into();
        let path = Path::new(&rewrite, template, &["rest"]).unwrap();
        path.apply(&Uri::from_static(uri), &context).unwrap().to_string()
    }

    #[test]
    fn a_prefix_stands_in_for_the_literal_segments() {
        let prefix = |to: &str| Rewrite::Prefix(to.to_owned());
        assert_eq!(rewritten(prefix("/v1"), "/api/{rest=**}", "/api/a%20b/c?x=1"), "/v1/a%20b/c?x=1");
        assert_eq!(rewritten(prefix("/"), "/api/{rest=**}", "/api/a"), "/a");
        assert_eq!(rewritten(prefix("/"), "/api", "/api"), "/");
        assert_eq!(rewritten(prefix("/v1/"), "/api", "/api"), "/v1");
    }

    #[test]
    fn a_path_is_made_of_the_variables() {
        let path = Rewrite::Path("/new/{rest}".to_owned());
        assert_eq!(rewritten(path, "/api/{rest=**}", "/api/a%20b/c?x=1"), "/new/a%20b/c?x=1");
    }

    #[test]
    fn a_rewrite_that_can_not_be_is_refused() {
        for rewrite in [Rewrite::Prefix("v1".into()), Rewrite::Path("/{id}".into()), Rewrite::Path("/a?b".into())] {
            assert!(Path::new(&rewrite, "/a/{rest=**}", &["rest"]).is_err(), "{rewrite:?}");
        }
    }

    #[test]
    fn a_proxy_is_a_name_or_a_mapping() {
        let read = |json| serde_json::from_str::<Config>(json);
        assert_eq!(read(r#""broker""#).unwrap().upstream, "broker");
        let config = read(r#"{"upstream": "broker", "rewrite": {"prefix": "/v1"}, "idle_timeout": "5s"}"#).unwrap();
        assert_eq!(config.idle_timeout, Duration::from_secs(5));
        assert!(read(r#"{"upstream": "broker", "prefix": "/v1"}"#).is_err());
    }
}
