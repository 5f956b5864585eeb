//! Sends the client elsewhere.

use std::{borrow::Cow, fmt::Write as _};

use http::{HeaderValue, Response, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;
use upstream::Body;

use super::{
    ConfigError,
    template::{Escape, Template},
};
use crate::{
    context::RequestContext,
    error::{Error, ErrorKind},
    route,
};

/// `redirect: { to: "/products/{id}", status: 308 }` or `redirect: { https: true }`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Redirect")]
pub struct Config {
    /// A path or an absolute URL; `{name}` is a variable of the route, percent-encoded. The request's query is kept,
    /// unless there is one here. Either this or what follows.
    #[serde(default)]
    pub to: Option<String>,
    /// To `https`, on the port that is usual for it unless `host` has another. Default false.
    #[serde(default)]
    pub https: bool,
    /// To another host, with a port if it needs one. Default: the one that was asked.
    #[serde(default)]
    pub host: Option<String>,
    /// To another path; `{name}` is a variable of the route. Default: the one that was asked.
    #[serde(default)]
    pub path: Option<String>,
    /// 301, 302, 303, 307 or 308 (default).
    #[serde(default = "permanent")]
    pub status: u16,
}

fn permanent() -> u16 {
    308
}

pub struct Redirect {
    status: StatusCode,
    /// `https:`, or nothing: the scheme stays.
    scheme: &'static str,
    host: Host,
    /// None: the path stays.
    path: Option<Template>,
    has_query: bool,
}

enum Host {
    /// Nothing is said of it: the client stays where it is, or `path` has it.
    Unsaid,
    Same,
    Other(String),
}

impl Redirect {
    /// `variables` are those of the route's path template.
    ///
    /// # Errors
    /// A status that doesn't redirect, a place that is none, or a variable the route doesn't have.
    pub fn new(config: &Config, variables: &[&str]) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let status = match config.status {
            301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(config.status).ok(),
            _ => None,
        };
        if status.is_none() {
            errors.push(ConfigError::new("status", "must be 301, 302, 303, 307 or 308"));
        }
        let has_parts = config.https || config.host.is_some() || config.path.is_some();
        if config.to.is_some() == has_parts {
            errors.push(ConfigError::new("", "says where by either `to`, or `https`, `host` and `path`"));
        }
        let (place, path) = match &config.to {
            Some(to) => ("to", Some(to)),
            None => ("path", config.path.as_ref()),
        };
        if let Some(path) = path {
            let url = place == "to" && ["http://", "https://"].iter().any(|start| path.starts_with(start));
            // `//host` is the path of another host.
            let is_path = path.starts_with('/') && !path.starts_with("//");
            if !(url || is_path) || HeaderValue::try_from(path).is_err() {
                let what = if place == "to" { "an absolute path or an http(s) URL" } else { "an absolute path" };
                errors.push(ConfigError::new(place, format!("must be {what}")));
            }
        }
        if let Some(host) = &config.host
            && (host.contains('@') || host.parse::<http::uri::Authority>().is_err())
        {
            errors.push(ConfigError::new("host", "must be a name, with or without a port"));
        }
        let template = path.map(|path| super::template::of_route(path, variables)).transpose();
        let template = template.map_err(|message| errors.push(ConfigError::new(place, message))).ok();
        match (status, template) {
            (Some(status), Some(path_template)) if errors.is_empty() => Ok(Self {
                status,
                scheme: if config.https { "https:" } else { "" },
                host: match &config.host {
                    Some(host) => Host::Other(host.clone()),
                    None if config.https => Host::Same,
                    None => Host::Unsaid,
                },
                path: path_template,
                has_query: path.is_some_and(|path| path.contains('?')),
            }),
            _ => Err(errors),
        }
    }

    /// Whether it asks for the route's variables.
    pub fn reads_variables(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.variables().next().is_some())
    }

    /// # Errors
    /// 400 where the host must stay and none was named.
    pub fn call(&self, request: &http::request::Parts, context: &RequestContext) -> Result<Response<Body>, Error> {
        let mut location = self.scheme.to_owned();
        match &self.host {
            Host::Unsaid => {}
            Host::Other(host) => _ = write!(location, "//{host}"),
            Host::Same => {
                let host = route::host(request);
                let host = host.ok_or_else(|| Error::new(ErrorKind::BadRequest, "the request names no host"))?;
                _ = write!(location, "//{host}");
            }
        }
        match &self.path {
            Some(path) => {
                let value = |name: &str| super::variable(context, name).map(Cow::Borrowed);
                location.push_str(&path.expand(Escape::Path, value).unwrap_or_default());
            }
            None => location.push_str(request.uri.path()),
        }
        if let Some(query) = request.uri.query().filter(|_| !self.has_query) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(section: &str) -> Result<Redirect, Vec<ConfigError>> {
        Redirect::new(&serde_saphyr::from_str(section).unwrap(), &["id"])
    }

    fn location(section: &str, host: &str) -> String {
        let request = http::Request::builder().uri("/a/7?x=1").header("host", host).body(()).unwrap().into_parts().0;
        let client = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let mut context = RequestContext::new("1".into(), telemetry::TraceContext::unsampled(), client);
        context.variables = [("id".into(), "7 8".to_owned())].into();
        let response = compile(section).unwrap_or_else(|errors| panic!("{errors:?}")).call(&request, &context).unwrap();
        response.headers()["location"].to_str().unwrap().to_owned()
    }

    #[test]
    fn what_is_not_said_stays() {
        for (section, expected) in [
            ("{to: '/b/{id}'}", "/b/7%208?x=1"),
            ("{to: 'https://other.test/b?y=2'}", "https://other.test/b?y=2"),
            ("{https: true}", "https://a.test/a/7?x=1"),
            ("{https: true, host: 'b.test:8443', path: '/b/{id}', status: 302}", "https://b.test:8443/b/7%208?x=1"),
            ("{host: b.test}", "//b.test/a/7?x=1"),
            ("{path: /b}", "/b?x=1"),
        ] {
            assert_eq!(location(section, "A.test:8080"), expected, "{section}");
        }
    }

    #[test]
    fn a_place_that_is_none_is_refused() {
        for (section, path) in [
            ("{}", ""),
            ("{to: /a, https: true}", ""),
            ("{to: b}", "to"),
            ("{to: //b.test}", "to"),
            ("{path: 'https://b.test'}", "path"),
            ("{path: '/{other}'}", "path"),
            ("{host: 'me@b.test'}", "host"),
            ("{to: /a, status: 200}", "status"),
        ] {
            let errors = compile(section).err().unwrap();
            assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), [path], "{section}");
        }
    }
}
