//! Cross-Origin Resource Sharing (Fetch Standard §3.2): which other origins' pages may call and read. None, unless the
//! configuration names them. A preflight is answered here: it carries no credentials, so nothing behind could judge it.

use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{self, Context, Poll},
};

use futures_util::future::Either;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pin_project_lite::pin_project;
use upstream::Body;

use super::{Request, Response};
use crate::config::{self, ConfigError};

/// The section `cors:`, compiled.
#[derive(Debug)]
pub struct Config {
    origins: Vec<String>,
    any: bool,
    credentials: bool,
    methods: HeaderValue,
    headers: HeaderValue,
    expose: HeaderValue,
    max_age: HeaderValue,
}

impl Config {
    /// # Errors
    /// Origins that are none, methods and headers that can't be sent, and any origin with credentials.
    pub fn new(written: &config::Cors) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let any = written.origins.iter().any(|origin| origin == "*");
        if any && (written.credentials || written.origins.len() > 1) {
            errors.push(ConfigError::new("cors.origins", "`*` stands alone, and not with `credentials`"));
        }
        for (at, origin) in written.origins.iter().enumerate() {
            let good = origin.split_once("://").is_some_and(|(scheme, host)| {
                matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains(['/', '?', '#', '@'])
            });
            if !good && origin != "*" {
                let message = format!("`{origin}` is not an origin such as https://app.example");
                errors.push(ConfigError::new(format!("cors.origins[{at}]"), message));
            }
        }
        let mut list = |field: &str, items: &[String]| {
            for (at, item) in items.iter().enumerate() {
                if HeaderName::try_from(item.as_str()).is_err() {
                    errors.push(ConfigError::new(format!("cors.{field}[{at}]"), format!("`{item}` is not a name")));
                }
            }
            HeaderValue::try_from(items.join(", ")).unwrap_or(HeaderValue::from_static(""))
        };
        let methods = list("methods", &written.methods);
        let headers = list("headers", &written.headers);
        let expose = list("expose", &written.expose);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            origins: written.origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
            any,
            credentials: written.credentials,
            methods,
            headers,
            expose,
            max_age: HeaderValue::from(written.max_age.as_secs()),
        })
    }

    /// Whether pages of an origin may send cookies.
    pub fn trusts(&self, origin: &str) -> bool {
        self.credentials && self.knows(origin)
    }

    fn knows(&self, origin: &str) -> bool {
        self.origins.iter().any(|own| own.eq_ignore_ascii_case(origin))
    }

    /// What `Access-Control-Allow-Origin` says to an origin, if it may read at all.
    fn allow(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        origin.to_str().is_ok_and(|origin| self.knows(origin)).then(|| origin.clone())
    }

    fn grant(&self, headers: &mut HeaderMap, allowed: HeaderValue) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    fn preflight(&self, origin: &HeaderValue) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        if let Some(allowed) = self.allow(origin) {
            self.grant(headers, allowed);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        response
    }
}

#[derive(Clone)]
pub struct Layer(pub Option<Arc<Config>>);

#[derive(Clone)]
pub struct Cors<S> {
    inner: S,
    config: Option<Arc<Config>>,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Cors<S>;
    fn layer(&self, inner: S) -> Cors<S> {
        Cors { inner, config: self.0.clone() }
    }
}

impl<S> tower::Service<Request> for Cors<S>
where
    S: tower::Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response, S::Error>>, Granting<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Some(config) = &self.config else {
            return Either::Right(Granting { inner: self.inner.call(request), grant: None });
        };
        let origin = request.headers().get(header::ORIGIN).cloned();
        if let Some(origin) = &origin
            && request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return Either::Left(ready(Ok(config.preflight(origin))));
        }
        let grant = Some((Arc::clone(config), origin));
        Either::Right(Granting { inner: self.inner.call(request), grant })
    }
}

pin_project! {
    pub struct Granting<F> {
        #[pin]
        inner: F,
        grant: Option<(Arc<Config>, Option<HeaderValue>)>,
    }
}

impl<F, E> Future for Granting<F>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = task::ready!(this.inner.poll(context))?;
        if let Some((config, origin)) = this.grant.take() {
            // Also where no origin was named: a cache must not serve this answer to one.
            response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
            if let Some(allowed) = origin.and_then(|origin| config.allow(&origin)) {
                config.grant(response.headers_mut(), allowed);
                response.headers_mut().insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, config.expose.clone());
            }
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<Config, Vec<ConfigError>> {
        Config::new(&serde_saphyr::from_str(text).unwrap())
    }

    #[test]
    fn any_origin_does_not_go_with_credentials() {
        assert!(compile("{origins: ['*']}").is_ok());
        assert!(compile("{origins: ['*'], credentials: true}").is_err());
        let errors = compile("{origins: ['app.example', 'https://a/b'], methods: ['a b']}").unwrap_err();
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["cors.origins[0]", "cors.origins[1]", "cors.methods[0]"]);
    }

    #[test]
    fn an_origin_is_trusted_only_if_it_is_named() {
        let config = compile("{origins: ['https://app.example'], credentials: true}").unwrap();
        assert!(config.trusts("https://app.example"));
        assert!(!config.trusts("https://app.example.evil"));
        assert!(config.allow(&HeaderValue::from_static("https://evil.example")).is_none());
    }
}
