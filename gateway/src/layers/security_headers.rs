//! Headers that have browsers take no liberties. An answer that brings its own keeps it.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderName, HeaderValue, header::STRICT_TRANSPORT_SECURITY};
use pin_project_lite::pin_project;

use super::{Request, Response};
use crate::{
    config::ConfigError,
    context::{Outcome, RequestContext},
};

const DEFAULTS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    // A year, of this host alone: what its subdomains can do isn't known here. Only said by https (RFC 6797, section 7.2).
    ("strict-transport-security", "max-age=31536000"),
];

/// The section `security_headers:`, laid over the defaults; or that of a route, laid over both.
#[derive(Clone, Debug)]
pub struct Config(Arc<[(HeaderName, HeaderValue)]>);

impl Config {
    /// The sections, each laid over the one before it; the last is the one at `path`.
    ///
    /// # Errors
    /// Names and values that can't be sent.
    pub fn new(path: &str, sections: &[&BTreeMap<String, String>]) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let written = sections.iter().flat_map(|section| section.iter());
        let lower: BTreeMap<String, &str> =
            written.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str())).collect();
        let defaults = DEFAULTS.into_iter().filter(|(name, _)| !lower.contains_key(*name));
        let own = lower.iter().map(|(name, value)| (name.as_str(), *value)).filter(|(_, value)| !value.is_empty());
        let mut headers = Vec::new();
        for (name, value) in defaults.chain(own) {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                _ => errors.push(ConfigError::new(format!("{path}.{name}"), "not a header field")),
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
pub struct Layer {
    pub everywhere: Config,
    /// Whether a route says anything else.
    pub routes_differ: bool,
    /// Whether any request can come by https.
    pub https: bool,
}

#[derive(Clone)]
pub struct SecurityHeaders<S> {
    inner: S,
    layer: Layer,
}

impl<S> tower::Layer<S> for Layer {
    type Service = SecurityHeaders<S>;
    fn layer(&self, inner: S) -> SecurityHeaders<S> {
        SecurityHeaders { inner, layer: self.clone() }
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
        let Layer { everywhere, routes_differ, https } = &self.layer;
        let context = (*routes_differ || *https).then(|| request.extensions().get::<RequestContext>()).flatten();
        let outcome = context.filter(|_| *routes_differ).map(|context| Arc::clone(&context.outcome));
        let secure = context.is_some_and(|context| context.secure);
        Adding { inner: self.inner.call(request), everywhere: everywhere.clone(), outcome, secure }
    }
}

pin_project! {
    pub struct Adding<F> {
        #[pin]
        inner: F,
        everywhere: Config,
        // Where routes differ: which it was.
        outcome: Option<Arc<Outcome>>,
        secure: bool,
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
        let route = this.outcome.as_ref().and_then(|outcome| outcome.route.get());
        let config = route.and_then(|route| route.policy.security_headers.as_ref()).unwrap_or(this.everywhere);
        for (name, value) in config.0.iter() {
            if name == STRICT_TRANSPORT_SECURITY && !*this.secure {
                continue;
            }
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
        let written = BTreeMap::from(written);
        let config = Config::new("security_headers", &[&written]).unwrap();
        let names: Vec<_> = config.0.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let transport = ("strict-transport-security", "max-age=31536000");
        let expected =
            [("x-content-type-options", "nosniff"), transport, ("x-frame-options", "SAMEORIGIN"), ("x-own", "1")];
        assert_eq!(names, expected);
        let of_route =
            BTreeMap::from([("X-Own".to_owned(), String::new()), ("x-frame-options".to_owned(), "A".to_owned())]);
        let config = Config::new("routes[0].security_headers", &[&written, &of_route]).unwrap();
        let names: Vec<_> = config.0.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(names, [("x-content-type-options", "nosniff"), transport, ("x-frame-options", "A")]);
        let wrong = BTreeMap::from([("a b".to_owned(), "c".to_owned())]);
        assert_eq!(Config::new("security_headers", &[&wrong]).unwrap_err()[0].path, "security_headers.a b");
    }
}
