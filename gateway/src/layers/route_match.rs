//! Finds the route. The path is brought into its normal form first, and goes on in it: what was matched is what is
//! forwarded. Answers OPTIONS itself; a HEAD that a GET route answers goes out without its body.

use std::{
    borrow::Cow,
    future::ready,
    pin::Pin,
    sync::Arc,
    task::{self, Context, Poll},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts, uri::PathAndQuery};
use http_body::Body as _;
use pin_project_lite::pin_project;
use tracing::Span;
use upstream::Body;

use super::{Checked, Request, Response};
use crate::{
    context::RequestContext,
    dialect::Dialect,
    error::{Error, ErrorKind},
    metrics,
    route::{self, Local, Match, Table},
};

#[derive(Clone)]
pub struct Layer(pub Arc<Table<Local>>);

#[derive(Clone)]
pub struct RouteMatch<S> {
    inner: S,
    table: Arc<Table<Local>>,
}

impl<S> tower::Layer<S> for Layer {
    type Service = RouteMatch<S>;
    fn layer(&self, inner: S) -> RouteMatch<S> {
        RouteMatch { inner, table: Arc::clone(&self.0) }
    }
}

impl<S> tower::Service<Request> for RouteMatch<S>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<Heading<S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let head = request.method() == Method::HEAD;
        match route(&self.table, request) {
            Ok(Routed::On(request)) => Checked::Right(Heading { inner: self.inner.call(request), head }),
            Ok(Routed::Answered(response)) => Checked::Left(ready(Ok(response))),
            Err(error) => Checked::Left(ready(Err(error))),
        }
    }
}

enum Routed {
    On(Request),
    Answered(Response),
}

fn route(table: &Table<Local>, request: Request) -> Result<Routed, Error> {
    let (mut parts, body) = request.into_parts();
    if parts.uri.path() == "*" && parts.method == Method::OPTIONS {
        check_host(&parts)?;
        return Ok(Routed::Answered(options(None)));
    }
    prepare(&mut parts)?;
    match table.find(parts.uri.path(), &parts) {
        Match::Found { value, template } => {
            if telemetry::is_recording() {
                name_span(&parts.method, &template.text);
            }
            let variables = template.variables(parts.uri.path())?;
            let mut request = Request::from_parts(parts, body);
            let context = RequestContext::of_mut(&mut request)?;
            _ = context.outcome.route.set(Arc::clone(value));
            context.variables = variables;
            context.route = Some(Arc::clone(value));
            Ok(Routed::On(request))
        }
        Match::MethodNotAllowed(allowed) if parts.method == Method::OPTIONS => {
            Ok(Routed::Answered(options(Some(&allowed))))
        }
        Match::MethodNotAllowed(allowed) => Err(not_allowed(&parts.method, &allowed)),
        Match::NotFound => Err(not_found(&parts.headers)),
    }
}

/// Brings the head of a request into the form that routes are found by, and that goes on.
///
/// # Errors
/// Where its host or its path can be read in two ways, or in none.
pub fn prepare(parts: &mut Parts) -> Result<(), Error> {
    check_host(parts)?;
    let normal = match route::normalise(parts.uri.path()) {
        Ok(Cow::Borrowed(_)) => None,
        Ok(Cow::Owned(path)) => Some(path),
        Err(why) => return Err(Error::new(ErrorKind::BadRequest, why.to_string())),
    };
    if let Some(path) = normal {
        parts.uri = with_path(&parts.uri, &path)?;
    }
    Ok(())
}

fn check_host(parts: &Parts) -> Result<(), Error> {
    route::check_host(parts).map_err(|why| Error::new(ErrorKind::BadRequest, why))
}

/// No route of this path takes the method.
pub fn not_allowed(method: &Method, allowed: &[Method]) -> Error {
    let detail = format!("this path can't be asked for with {method}");
    Error::new(ErrorKind::MethodNotAllowed, detail).header(header::ALLOW, list(allowed))
}

/// No route has the path. A gRPC client learns that there is no such method, as from any server of gRPC: NOT_FOUND would
/// say that there is one, which has no such thing.
pub fn not_found(headers: &HeaderMap) -> Error {
    if Dialect::of(headers).is_grpc() {
        return Error::new(ErrorKind::Unimplemented, "there is no such method");
    }
    Error::new(ErrorKind::NotFound, "nothing is to be had at this path")
}

/// The request's span is that of a route from now on: low in number, as a name must be.
fn name_span(method: &Method, template: &str) {
    let span = Span::current();
    span.record("http.route", template);
    telemetry::rename(&span, &format!("{} {template}", metrics::known(method).unwrap_or("HTTP")));
}

fn with_path(uri: &Uri, path: &str) -> Result<Uri, Error> {
    let bad =
        |error: &dyn std::fmt::Display| Error::new(ErrorKind::BadRequest, "the path is not well formed").cause(error);
    let path_and_query = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.map_err(|error| bad(&error))?);
    Uri::from_parts(parts).map_err(|error| bad(&error))
}

/// The status of an OPTIONS that no route is for.
pub const OPTIONS: StatusCode = StatusCode::NO_CONTENT;

fn options(allowed: Option<&[Method]>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = OPTIONS;
    if let Some(allowed) = allowed {
        response.headers_mut().insert(header::ALLOW, list(allowed));
    }
    response
}

fn list(methods: &[Method]) -> HeaderValue {
    let names: Vec<_> = methods.iter().map(Method::as_str).collect();
    HeaderValue::try_from(names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}

pin_project! {
    pub struct Heading<F> {
        #[pin]
        inner: F,
        head: bool,
    }
}

impl<F> Future for Heading<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = task::ready!(this.inner.poll(context))?;
        if *this.head {
            let length = response.body().size_hint().exact().filter(|length| *length > 0);
            *response.body_mut() = Body::empty();
            if let Some(length) = length {
                response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
            }
        }
        Poll::Ready(Ok(response))
    }
}
