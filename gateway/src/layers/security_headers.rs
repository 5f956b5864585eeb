//! Headers that have browsers take no liberties. An answer that brings its own keeps it.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderName, HeaderValue};
use pin_project_lite::pin_project;

use super::{Request, Response};
use crate::config::ConfigError;

const DEFAULTS: [(&str, &str); 3] =
    [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")];

/// The section `security_headers:`, laid over the defaults.
#[derive(Clone, Debug)]
pub struct Config(Arc<[(HeaderName, HeaderValue)]>);

impl Config {
    /// # Errors
    /// Names and values that can't be sent.
    pub fn new(written: &BTreeMap<String, String>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let lower: BTreeMap<String, &str> =
            written.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str())).collect();
        let defaults = DEFAULTS.into_iter().filter(|(name, _)| !lower.contains_key(*name));
        let own = lower.iter().map(|(name, value)| (name.as_str(), *value)).filter(|(_, value)| !value.is_empty());
        let mut headers = Vec::new();
        for (name, value) in defaults.chain(own) {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                _ => errors.push(ConfigError::new(format!("security_headers.{name}"), "not a header field")),
            }
        }
        if errors.is_empty() { Ok(Self(headers.into())) } else { Err(errors) }
    }

    /// A copy for one core: each answer counts a reference to it.
    pub fn own(&self) -> Self {
        Self(self.0.iter().cloned().collect())
    }
}

#[derive(Clone)]
pub struct Layer(pub Config);

#[derive(Clone)]
pub struct SecurityHeaders<S> {
    inner: S,
    config: Config,
}

impl<S> tower::Layer<S> for Layer {
    type Service = SecurityHeaders<S>;
    fn layer(&self, inner: S) -> SecurityHeaders<S> {
        SecurityHeaders { inner, config: self.0.clone() }
    }
}

impl<S> tower::Service<Request> for SecurityHeaders<S>
where
    S: tower::Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Adding<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Adding { inner: self.inner.call(request), config: self.config.clone() }
    }
}

pin_project! {
    pub struct Adding<F> {
        #[pin]
        inner: F,
        config: Config,
    }
}

impl<F, E> Future for Adding<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(context))?;
        for (name, value) in this.config.0.iter() {
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_can_be_changed_taken_away_and_added_to() {
        let written = [("X-Frame-Options", "SAMEORIGIN"), ("referrer-policy", ""), ("x-own", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::new(&BTreeMap::from(written)).unwrap();
        let names: Vec<_> = config.0.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(names, [("x-content-type-options", "nosniff"), ("x-frame-options", "SAMEORIGIN"), ("x-own", "1")]);
        assert!(Config::new(&BTreeMap::from([("a b".to_owned(), "c".to_owned())])).is_err());
    }
}
