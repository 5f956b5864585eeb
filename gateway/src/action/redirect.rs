//! Sends the client elsewhere.

use std::borrow::Cow;

use http::{HeaderValue, Request, Response, StatusCode, header};
use serde::Deserialize;
use upstream::Body;

use super::{
    ConfigError,
    template::{Escape, Template},
};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
};

/// `redirect: { to: "/products/{id}", status: 308 }`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A path or an absolute URL; `{name}` is a variable of the route, percent-encoded. The request's query is kept,
    /// unless there is one here.
    pub to: String,
    /// 301, 302, 303, 307 or 308 (default).
    #[serde(default = "permanent")]
    pub status: u16,
}

fn permanent() -> u16 {
    308
}

pub struct Redirect {
    status: StatusCode,
    to: Template,
    has_query: bool,
}

impl Redirect {
    /// `variables` are those of the route's path template.
    ///
    /// # Errors
    /// A status that doesn't redirect, or a variable the route doesn't have.
    pub fn new(config: &Config, variables: &[&str]) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let status = match config.status {
            301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(config.status).ok(),
            _ => None,
        };
        if status.is_none() {
            errors.push(ConfigError::new("status", "must be 301, 302, 303, 307 or 308"));
        }
        let absolute = ["/", "http://", "https://"].iter().any(|start| config.to.starts_with(start));
        // `//host` is the path of another host.
        if !absolute || config.to.starts_with("//") || HeaderValue::try_from(&config.to).is_err() {
            errors.push(ConfigError::new("to", "must be an absolute path or an http(s) URL"));
        }
        let to = super::template::of_route(&config.to, variables);
        let to = to.map_err(|message| errors.push(ConfigError::new("to", message))).ok();
        match (status, to) {
            (Some(status), Some(to)) if errors.is_empty() => {
                Ok(Self { status, to, has_query: config.to.contains('?') })
            }
            _ => Err(errors),
        }
    }

    /// # Errors
    /// None that a client can cause: a location that is no header value.
    pub fn call(&self, request: &Request<Body>, context: &RequestContext) -> Result<Response<Body>, Error> {
        let value = |name: &str| super::variable(context, name).map(Cow::Borrowed);
        let mut location = self.to.expand(Escape::Path, value).unwrap_or_default();
        if let Some(query) = request.uri().query().filter(|_| !self.has_query) {
            location.push('?');
            location.push_str(query);
        }
        let location = HeaderValue::try_from(location)
            .map_err(|error| Error::new(ErrorKind::Internal, "the redirect can't be written").cause(error))?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::LOCATION, location);
        Ok(response)
    }
}
