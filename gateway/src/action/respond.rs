//! Answers with a fixed response.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;
use upstream::Body;

use super::ConfigError;

/// `respond: { status: 200, body: "ok", headers: { x-hello: world } }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Respond")]
pub struct Config {
    /// 200 to 599.
    pub status: u16,
    #[serde(default)]
    pub body: String,
    /// `content-type` is `text/plain; charset=utf-8` unless it stands here.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

pub struct Respond {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Respond {
    /// # Errors
    /// A status out of range, or a header that can't be sent.
    pub fn new(config: &Config) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let status = StatusCode::from_u16(config.status).ok().filter(|status| (200..600).contains(&status.as_u16()));
        if status.is_none() {
            errors.push(ConfigError::new("status", "must be within 200 to 599"));
        }
        let mut headers = HeaderMap::new();
        if !config.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        for (name, value) in &config.headers {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => _ = headers.insert(name, value),
                _ => errors.push(ConfigError::new(format!("headers.{name}"), "not a header field")),
            }
        }
        match status {
            Some(status) if errors.is_empty() => {
                Ok(Self { status, headers, body: Bytes::copy_from_slice(config.body.as_bytes()) })
            }
            _ => Err(errors),
        }
    }

    pub fn call(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_answer_is_checked_when_it_loads() {
        let config = |status, name: &str| Config {
            status,
            body: "ok".into(),
            headers: BTreeMap::from([(name.to_owned(), "1".to_owned())]),
        };
        let answer = Respond::new(&config(203, "x-a")).unwrap_or_else(|_| panic!("valid")).call();
        assert_eq!(answer.status(), 203);
        assert_eq!(answer.headers()["x-a"], "1");
        assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
        let errors = Respond::new(&config(99, "x a")).err().unwrap_or_default();
        assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["status", "headers.x a"]);
    }
}
