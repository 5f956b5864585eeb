//! Cross-Origin Resource Sharing (Fetch Standard §3.2): which other origins' pages may call and read. None, unless the
//! configuration names them. A preflight is answered here: it carries no credentials, so nothing behind could judge it.

use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{self, Context, Poll},
};

use futures_util::future::Either;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use pin_project_lite::pin_project;
use upstream::Body;

use super::{Request, Response};
use crate::{
    config::{self, ConfigError},
    context::{Outcome, RequestContext},
    route::{self, Local, Match, Table},
};

/// The section `cors:`, compiled.
#[derive(Debug)]
pub struct Config {
    origins: Vec<Origin>,
    any: bool,
    credentials: bool,
    methods: HeaderValue,
    headers: HeaderValue,
    expose: HeaderValue,
    max_age: HeaderValue,
}

/// What a route says of it.
#[derive(Clone, Debug, Default)]
pub enum OfRoute {
    /// Nothing: what holds everywhere.
    #[default]
    Inherited,
    Off,
    Own(Arc<Config>),
}

impl OfRoute {
    /// What holds for the route.
    pub fn over<'a>(&'a self, everywhere: Option<&'a Arc<Config>>) -> Option<&'a Arc<Config>> {
        match self {
            Self::Inherited => everywhere,
            Self::Off => None,
            Self::Own(own) => Some(own),
        }
    }
}

/// Origins as they are written, in lower case.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Exact(String),
    /// `https://*.app.example:8443`: every host below that one.
    Below {
        scheme: String,
        host: String,
    },
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        // Browsers leave out the port that the scheme has anyway.
        let (port, stars) = match scheme {
            "http" => (":80", authority.strip_prefix("*.")),
            "https" => (":443", authority.strip_prefix("*.")),
            _ => return None,
        };
        let named = |host: &str| {
            let uri = format!("{scheme}://{host}").parse::<Uri>().ok()?;
            let plain =
                uri.authority().is_some_and(|authority| authority.as_str() == host && !host.contains(['@', '*']));
            plain.then(|| host.strip_suffix(port).unwrap_or(host).to_owned())
        };
        match stars {
            // All of `*.com` is not anybody's.
            Some(host) => {
                let host = named(host).filter(|host| host.contains('.'))?;
                Some(Self::Below { scheme: format!("{scheme}://"), host: format!(".{host}") })
            }
            None => named(authority).map(|host| Self::Exact(format!("{scheme}://{host}"))),
        }
    }

    fn is(&self, origin: &str) -> bool {
        match self {
            Self::Exact(own) => own.eq_ignore_ascii_case(origin),
            Self::Below { scheme, host } => {
                let Some((start, rest)) = origin.split_at_checked(scheme.len()) else { return false };
                let Some(cut) = rest.len().checked_sub(host.len()) else { return false };
                let Some((label, end)) = rest.split_at_checked(cut) else { return false };
                start.eq_ignore_ascii_case(scheme) && end.eq_ignore_ascii_case(host) && label.split('.').all(is_label)
            }
        }
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl Config {
    /// The section that stands at `path`.
    ///
    /// # Errors
    /// Origins that are none, methods and headers that can't be sent, and any origin with credentials.
    pub fn new(path: &str, written: &config::Cors) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let any = written.origins.iter().any(|origin| origin == "*");
        if any && (written.credentials || written.origins.len() > 1) {
            errors.push(ConfigError::new(format!("{path}.origins"), "`*` stands alone, and not with `credentials`"));
        }
        if written.origins.is_empty() {
            errors.push(ConfigError::new(format!("{path}.origins"), "names none"));
        }
        let mut origins = Vec::new();
        for (at, text) in written.origins.iter().enumerate().filter(|(_, text)| *text != "*") {
            match Origin::parse(text) {
                Some(origin) => origins.push(origin),
                None => {
                    let message = format!("`{text}` is no origin such as https://app.example or https://*.app.example");
                    errors.push(ConfigError::new(format!("{path}.origins[{at}]"), message));
                }
            }
        }
        let mut list = |field: &str, items: &[String]| {
            for (at, item) in items.iter().enumerate() {
                let place = format!("{path}.{field}[{at}]");
                if HeaderName::try_from(item.as_str()).is_err() {
                    errors.push(ConfigError::new(place, format!("`{item}` is not a name")));
                } else if item == "*" && written.credentials {
                    // Browsers take it for a name then.
                    errors.push(ConfigError::new(place, "`*` does not go with `credentials`"));
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
        let max_age = HeaderValue::from(written.max_age.as_secs());
        Ok(Self { origins, any, credentials: written.credentials, methods, headers, expose, max_age })
    }

    /// Whether pages of an origin may send cookies.
    pub fn trusts(&self, origin: &str) -> bool {
        self.credentials && self.knows(origin)
    }

    fn knows(&self, origin: &str) -> bool {
        self.origins.iter().any(|own| own.is(origin))
    }

    /// Adds what `Access-Control-Allow-Origin` says, if the origin may read the answer at all.
    fn grant(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) -> bool {
        if self.any {
            // For everybody the same, so that caches can keep one answer for all.
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            return true;
        }
        // Also where no origin was named: a cache must not serve this answer to one.
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let known = origin.filter(|origin| origin.to_str().is_ok_and(|origin| self.knows(origin)));
        let Some(origin) = known else { return false };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }

    fn preflight(&self, origin: &HeaderValue) -> Response {
        let mut response = no_content();
        let headers = response.headers_mut();
        if self.grant(headers, Some(origin)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        response
    }

    fn answer(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        // Where the gateway says who may read, an upstream doesn't.
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
        ] {
            headers.remove(name);
        }
        if self.grant(headers, origin) {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
        }
    }
}

fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[derive(Clone)]
pub struct Layer {
    pub everywhere: Option<Arc<Config>>,
    /// None: no route says anything else.
    pub routes: Option<Arc<Table<Local>>>,
}

impl Layer {
    /// The answer to a preflight. None: that is the route's affair.
    fn preflight(&self, request: &Request, origin: &HeaderValue) -> Option<Response> {
        let asked = self.asked(request).unwrap_or(&OfRoute::Inherited);
        match (asked, asked.over(self.everywhere.as_ref())) {
            (_, Some(config)) => Some(config.preflight(origin)),
            (OfRoute::Off, None) => Some(no_content()),
            (_, None) => None,
        }
    }

    /// What the route says that a preflight asks about, if there is one.
    fn asked(&self, request: &Request) -> Option<&OfRoute> {
        let table = self.routes.as_ref()?;
        let method = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let method = method.and_then(|method| Method::from_bytes(method.as_bytes()).ok())?;
        let path = route::normalise(request.uri().path()).ok()?;
        let (mut parts, ()) = http::Request::new(()).into_parts();
        (parts.method, parts.uri, parts.headers) = (method, request.uri().clone(), request.headers().clone());
        match table.find(&path, &parts) {
            Match::Found { value, .. } => Some(&value.policy.cors),
            _ => None,
        }
    }
}

#[derive(Clone)]
pub struct Cors<S> {
    inner: S,
    layer: Layer,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Cors<S>;
    fn layer(&self, inner: S) -> Cors<S> {
        Cors { inner, layer: self.clone() }
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
        if self.layer.everywhere.is_none() && self.layer.routes.is_none() {
            return Either::Right(Granting { inner: self.inner.call(request), asked: None });
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        if let Some(origin) = &origin
            && request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
            && let Some(response) = self.layer.preflight(&request, origin)
        {
            return Either::Left(ready(Ok(response)));
        }
        let context = self.layer.routes.as_ref().and_then(|_| request.extensions().get::<RequestContext>());
        let outcome = context.map(|context| Arc::clone(&context.outcome));
        let asked = Some(Asked { everywhere: self.layer.everywhere.clone(), outcome, origin });
        Either::Right(Granting { inner: self.inner.call(request), asked })
    }
}

struct Asked {
    everywhere: Option<Arc<Config>>,
    /// Where routes differ: which it was.
    outcome: Option<Arc<Outcome>>,
    origin: Option<HeaderValue>,
}

pin_project! {
    pub struct Granting<F> {
        #[pin]
        inner: F,
        asked: Option<Asked>,
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
        if let Some(Asked { everywhere, outcome, origin }) = this.asked.take() {
            let everywhere = everywhere.as_ref();
            let route = outcome.as_ref().and_then(|outcome| outcome.route.get());
            if let Some(config) = route.map_or(everywhere, |route| route.policy.cors.over(everywhere)) {
                config.answer(response.headers_mut(), origin.as_ref());
            }
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Result<Config, Vec<ConfigError>> {
        Config::new("cors", &serde_saphyr::from_str(text).unwrap())
    }

    #[test]
    fn any_origin_does_not_go_with_credentials() {
        assert!(compile("{origins: ['*'], headers: ['*']}").is_ok());
        assert!(compile("{origins: ['*'], credentials: true}").is_err());
        assert!(compile("{origins: ['https://a.test'], credentials: true, headers: ['*']}").is_err());
        assert!(compile("{origins: []}").is_err());
        let errors = compile("{origins: ['app.example', 'https://a/b'], methods: ['a b']}").unwrap_err();
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["cors.origins[0]", "cors.origins[1]", "cors.methods[0]"]);
    }

    #[test]
    fn an_origin_is_trusted_only_if_it_is_named() {
        let config = compile("{origins: ['https://App.example', 'http://localhost:3000'], credentials: true}").unwrap();
        for good in ["https://app.example", "http://localhost:3000"] {
            assert!(config.trusts(good), "{good}");
        }
        for bad in ["https://app.example.evil", "http://app.example", "https://app.example:8443", "null", ""] {
            assert!(!config.trusts(bad), "{bad}");
        }
    }

    #[test]
    fn a_star_stands_for_names_below_and_nothing_else() {
        let config = compile("{origins: ['https://*.app.example', 'http://*.dev.test:3000']}").unwrap();
        for good in ["https://a.app.example", "https://b.a.APP.example", "http://x.dev.test:3000"] {
            assert!(config.knows(good), "{good}");
        }
        for bad in [
            "https://app.example",
            "https://evilapp.example",
            "http://a.app.example",
            "https://a.app.example:8443",
            "https://.app.example",
            "https://evil.test/.app.example",
            "https://evil.test#.app.example",
            "https://evil.test:1@a.app.example",
            "http://x.dev.test",
            "https://é.app.example",
            "https://",
        ] {
            assert!(!config.knows(bad), "{bad}");
        }
        for wrong in ["https://*", "https://*.com", "*.a.test", "https://a.*.test", "https://**.a.test", "ftp://a.test"]
        {
            assert!(compile(&format!("{{origins: ['{wrong}']}}")).is_err(), "{wrong}");
        }
        assert_eq!(Origin::parse("https://a.test:443"), Origin::parse("https://a.test"));
    }
}
