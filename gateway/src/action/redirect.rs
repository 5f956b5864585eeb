//! Sends the client elsewhere.

use http::{Request, Response, StatusCode};
use serde::Deserialize;
use upstream::Body;

use super::ConfigError;
use crate::{context::RequestContext, error::Error};

/// `redirect: { to: "/products/{id}", status: 308 }`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A path or an absolute URL; `{name}` is a variable of the route, percent-encoded. The query is kept.
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
}

impl Redirect {
    /// `variables` are those of the route's path template.
    ///
    /// # Errors
    /// A status that doesn't redirect, or a variable the route doesn't have.
    pub fn new(_config: &Config, _variables: &[&str]) -> Result<Self, Vec<ConfigError>> {
        todo!()
    }

    pub fn call(&self, _request: &Request<Body>, _context: &RequestContext) -> Result<Response<Body>, Error> {
        let _ = self.status;
        todo!()
    }
}
