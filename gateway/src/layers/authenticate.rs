//! Finds out who is calling, by API key or session. A key that is not good is refused even where none is needed; a session
//! that is over makes its caller nobody, because browsers send old cookies along.
//!
//! Credentials end here: the upstream learns who calls from the principal token alone, which only the gateway can make.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Instant, SystemTime},
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, header};
use pin_project_lite::pin_project;

use super::{Checked, Request, Response, cors, refuse};
use crate::{
    action::Action,
    auth::{Authority, Credential, cross_site, ring, session},
    context::{Authenticated, RequestContext},
    error::{Error, ErrorKind},
    route::Authenticate as Policy,
};

#[derive(Clone)]
pub struct Layer {
    pub authority: Arc<Authority>,
    /// Origins whose pages may use a session.
    pub cors: Option<Arc<cors::Config>>,
}

#[derive(Clone)]
pub struct Authenticate<S> {
    inner: S,
    config: Layer,
}

impl<S> tower::Layer<S> for Layer {
    type Service = Authenticate<S>;
    fn layer(&self, inner: S) -> Authenticate<S> {
        Authenticate { inner, config: self.clone() }
    }
}

impl<S> tower::Service<Request> for Authenticate<S>
where
    S: tower::Service<Request, Response = Response, Error = Error> + Clone,
{
    type Response = Response;
    type Error = Error;
    type Future = Checked<Authenticating<S, S::Future>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match self.config.at_once(&mut request) {
            Ok(Step::Pass) => Checked::Right(Authenticating::Passed { inner: self.inner.call(request) }),
            Ok(Step::AskStore) => {
                let finding = Box::pin(self.config.clone().by_session(request));
                Checked::Right(Authenticating::Asking { finding, service: self.inner.clone() })
            }
            Err(error) => refuse(error),
        }
    }
}

enum Step {
    Pass,
    /// There is a session to look for.
    AskStore,
}

impl Layer {
    /// All that needs no waiting.
    fn at_once(&self, request: &mut Request) -> Result<Step, Error> {
        request.headers_mut().remove(principal::METADATA);
        let context = RequestContext::of(request)?;
        let policy = context.route()?.policy.authenticate;
        if policy == Policy::None {
            conceal(request)?;
            return Ok(Step::Pass);
        }
        if let Some(key) = ring::presented(request.headers()) {
            let loopback = context.loopback;
            let keys = self.authority.keys.load();
            let accepted = std::str::from_utf8(key).ok().and_then(|key| keys.accept(key, loopback));
            let accepted = accepted.ok_or_else(|| unauthenticated("the API key is not known, or no longer good"))?;
            let authenticated = self.sign(accepted.credential)?;
            let id = Arc::clone(accepted.id);
            request.headers_mut().remove(ring::X_API_KEY);
            request.headers_mut().remove(header::AUTHORIZATION);
            conceal(request)?;
            let context = RequestContext::of_mut(request)?;
            context.api_key = Some(id);
            known(context, authenticated);
            return Ok(Step::Pass);
        }
        if session::presented(request.headers()) {
            return Ok(Step::AskStore);
        }
        missing(policy)
    }

    async fn by_session(self, mut request: Request) -> Result<Request, Error> {
        let session = self.authority.sessions.session(request.headers(), SystemTime::now()).await?;
        let route = Arc::clone(RequestContext::of(&request)?.route()?);
        let Some(session) = session else {
            conceal(&mut request)?;
            return missing(route.policy.authenticate).map(|_| request);
        };
        let trusted = |origin: &str| self.cors.as_ref().is_some_and(|cors| cors.trusts(origin));
        if !cross_site::allows(request.method(), request.uri(), request.headers(), trusted) {
            return Err(Error::new(ErrorKind::Forbidden, "another site's page can't do this with your session"));
        }
        let authenticated = self.sign(&session.credential)?;
        conceal(&mut request)?;
        known(RequestContext::of_mut(&mut request)?, authenticated);
        Ok(request)
    }

    fn sign(&self, credential: &Credential) -> Result<Arc<Authenticated>, Error> {
        credential.authenticated(&self.authority.signer, Instant::now()).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the gateway made a mistake").cause("the token is no header")
        })
    }
}

fn known(context: &mut RequestContext, authenticated: Arc<Authenticated>) {
    _ = context.outcome.principal.set(Arc::clone(&authenticated));
    context.principal = Some(authenticated);
}

fn missing(policy: Policy) -> Result<Step, Error> {
    match policy {
        Policy::Required => Err(unauthenticated("this needs an API key or a session")),
        Policy::Optional | Policy::None => Ok(Step::Pass),
    }
}

fn unauthenticated(detail: &'static str) -> Error {
    Error::new(ErrorKind::Unauthenticated, detail)
}

/// Keeps the session to ourselves, used or not. Its own endpoints still need to know which one it is.
fn conceal(request: &mut Request) -> Result<(), Error> {
    if session::presented(request.headers())
        && !matches!(RequestContext::of(request)?.route()?.action, Action::Session(_))
    {
        hide_cookie(request.headers_mut());
    }
    Ok(())
}

/// Takes our cookie out of what the upstream sees, and leaves the others.
fn hide_cookie(headers: &mut HeaderMap) {
    let lines: Vec<_> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for line in lines {
        let Ok(text) = line.to_str() else { continue };
        let others = text.split(';').map(str::trim).filter(|pair| pair.split('=').next() != Some(session::COOKIE));
        let others = others.collect::<Vec<_>>().join("; ");
        if let Ok(others) = HeaderValue::try_from(others)
            && !others.is_empty()
        {
            headers.append(header::COOKIE, others);
        }
    }
}

pin_project! {
    #[project = Projected]
    pub enum Authenticating<S, F> {
        Passed {
            #[pin]
            inner: F,
        },
        // Only sessions may be far away; nothing else pays for a future of its own.
        Asking {
            finding: BoxFuture<'static, Result<Request, Error>>,
            service: S,
        },
    }
}

impl<S> Future for Authenticating<S, S::Future>
where
    S: tower::Service<Request, Response = Response, Error = Error>,
{
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let inner = match self.as_mut().project() {
                Projected::Passed { inner } => return inner.poll(context),
                Projected::Asking { finding, service } => service.call(ready!(finding.as_mut().poll(context))?),
            };
            self.set(Self::Passed { inner });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_cookie_is_hidden() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("a=1; __Host-session=x; b=2"));
        hide_cookie(&mut headers);
        assert_eq!(headers[header::COOKIE], "a=1; b=2");
        headers.insert(header::COOKIE, HeaderValue::from_static("__Host-session=x"));
        hide_cookie(&mut headers);
        assert!(!headers.contains_key(header::COOKIE));
    }
}
