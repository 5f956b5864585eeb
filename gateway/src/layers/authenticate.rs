//! Finds out who is calling: by API key or token, else by session, else by client certificate. A key or a token that is
//! not good is refused even where none is needed; a session that is over makes its caller nobody, because browsers send
//! old cookies along.
//!
//! Credentials end here, unless their route says otherwise: the upstream learns who calls from the principal token alone,
//! which only the gateway can make.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Instant, SystemTime},
};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pin_project_lite::pin_project;
use time::OffsetDateTime;

use super::{Checked, Request, Response, cors, refuse, request_id::Peer};
use crate::{
    action::Action,
    auth::{
        Authority, Credential, Kind, Origin, Presented, X_API_KEY,
        certificate::Certificates,
        challenge, cross_site,
        jwt::{Look, Refused, Tokens, Wait},
        presented, session,
    },
    context::{Authenticated, RequestContext},
    error::{Error, ErrorKind},
    route::Authenticate as Policy,
};

const PRINCIPAL: HeaderName = HeaderName::from_static(principal::METADATA);

#[derive(Clone)]
pub struct Layer {
    pub authority: Arc<Authority>,
    pub tokens: Arc<Tokens>,
    /// None: certificates make nobody known.
    pub certificates: Option<Arc<Certificates>>,
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
            Ok(Step::AskStore) => self.asking(Box::pin(self.config.clone().by_session(request))),
            Ok(Step::AskIssuer(wait)) => self.asking(Box::pin(self.config.clone().by_token(request, wait))),
            Err(error) => refuse(error),
        }
    }
}

impl<S: Clone> Authenticate<S> {
    fn asking<F>(&self, finding: BoxFuture<'static, Result<Request, Error>>) -> Checked<Authenticating<S, F>> {
        Checked::Right(Authenticating::Asking { finding, service: self.inner.clone() })
    }
}

enum Step {
    Pass,
    /// There is a session to look for.
    AskStore,
    /// The key of a token may come.
    AskIssuer(Wait),
}

impl Layer {
    /// All that needs no waiting.
    fn at_once(&self, request: &mut Request) -> Result<Step, Error> {
        request.headers_mut().remove(&PRINCIPAL);
        let context = RequestContext::of(request)?;
        let policy = &context.route()?.policy;
        let (authenticate, accepts) = (policy.authenticate, policy.accepts);
        if authenticate == Policy::None {
            conceal(request)?;
            return Ok(Step::Pass);
        }
        match presented(request.headers()).map_err(|muddled| challenge::invalid_request(muddled.0))? {
            Presented::ApiKey(key) => {
                let keys = self.authority.keys.load();
                let accepted = keys.accept(key, context.loopback).filter(|credential| !self.revoked(credential));
                let accepted =
                    accepted.ok_or_else(|| challenge::invalid_token("the API key is not known, or no longer good"))?;
                if !accepts.contains(Kind::ApiKey) {
                    return Err(challenge::invalid_token("no API keys are taken here"));
                }
                self.admit(request, accepted)?;
                return Ok(Step::Pass);
            }
            Presented::Token(token) => {
                if self.tokens.is_empty() || !accepts.contains(Kind::Jwt) {
                    return Err(challenge::invalid_token("no tokens are taken here"));
                }
                return match self.tokens.look(token, SystemTime::now(), false).map_err(refused)? {
                    Look::Wait(wait) => Ok(Step::AskIssuer(wait)),
                    Look::Known(credential) => self.by_known_token(request, &credential).map(|()| Step::Pass),
                };
            }
            Presented::Nothing => {}
        }
        if accepts.contains(Kind::Session) && session::presented(request.headers()) {
            return Ok(Step::AskStore);
        }
        self.otherwise(request).map(|()| Step::Pass)
    }

    /// A token whose key has been waited for.
    async fn by_token(self, mut request: Request, wait: Wait) -> Result<Request, Error> {
        wait.over().await;
        let Ok(Presented::Token(token)) = presented(request.headers()) else { return Ok(request) };
        match self.tokens.look(token, SystemTime::now(), true).map_err(refused)? {
            Look::Known(credential) => self.by_known_token(&mut request, &credential)?,
            // It was told not to wait again.
            Look::Wait(_) => return Err(refused(Refused::NoKeys)),
        }
        Ok(request)
    }

    fn by_known_token(&self, request: &mut Request, credential: &Credential) -> Result<(), Error> {
        if self.revoked(credential) {
            return Err(challenge::invalid_token("the token was revoked"));
        }
        self.admit(request, credential)
    }

    async fn by_session(self, mut request: Request) -> Result<Request, Error> {
        let session = self.authority.sessions.session(request.headers(), SystemTime::now()).await?;
        let revoked = session.as_ref().filter(|session| self.revoked(&session.credential));
        if let Some(Origin::Session(id)) = revoked.map(|session| &session.credential.origin) {
            // Nobody listened when it was: it is still in the store, where its own endpoints would find it.
            self.authority.sessions.revoke(id).await;
        }
        let Some(session) = session.as_ref().filter(|_| revoked.is_none()) else {
            self.otherwise(&mut request)?;
            return Ok(request);
        };
        self.of_our_pages(&request)?;
        self.admit(&mut request, &session.credential)?;
        Ok(request)
    }

    /// Refuses what another site's page has a browser send: it shows sessions and certificates by itself.
    fn of_our_pages(&self, request: &Request) -> Result<(), Error> {
        let context = RequestContext::of(request)?;
        let cors = context.route()?.policy.cors.over(self.cors.as_ref());
        // Where a proxy in front has put in a name of its own, our pages have the one that it was asked for.
        let said = context.said.as_ref().and_then(|said| said.host.as_ref());
        let own = |origin: &str| said.is_some_and(|host| cross_site::is_of(origin, host.as_bytes()));
        let trusted = |origin: &str| cors.is_some_and(|cors| cors.trusts(origin)) || own(origin);
        if cross_site::allows(request.method(), request.uri(), request.headers(), trusted) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Forbidden, "another site's page can't do this in your name"))
    }

    /// Where there is neither key nor token nor session: the certificate, if there is one.
    fn otherwise(&self, request: &mut Request) -> Result<(), Error> {
        let policy = &RequestContext::of(request)?.route()?.policy;
        let (authenticate, accepts) = (policy.authenticate, policy.accepts);
        if accepts.contains(Kind::Certificate)
            && let Some(certificates) = &self.certificates
            && let Some(shown) = request.extensions().get::<Peer>().and_then(|peer| peer.certificate.as_ref())
            && let Some(credential) = certificates.known(shown, OffsetDateTime::now_utc())
            && !self.revoked(&credential)
        {
            self.of_our_pages(request)?;
            return self.admit(request, &credential);
        }
        conceal(request)?;
        match authenticate {
            Policy::Required => {
                Err(Error::new(ErrorKind::Unauthenticated, "this needs an API key, a token or a session"))
            }
            Policy::Optional | Policy::None => Ok(()),
        }
    }

    /// Makes the caller known, and keeps its credential to ourselves.
    fn admit(&self, request: &mut Request, credential: &Credential) -> Result<(), Error> {
        let authenticated = credential.authenticated(&self.authority.signer, Instant::now()).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the gateway made a mistake").cause("the token is no header")
        })?;
        if !RequestContext::of(request)?.route()?.policy.forward_credentials
            && matches!(credential.origin, Origin::Key(_) | Origin::Token { .. })
        {
            request.headers_mut().remove(&X_API_KEY);
            request.headers_mut().remove(header::AUTHORIZATION);
        }
        conceal(request)?;
        let context = RequestContext::of_mut(request)?;
        context.kind = Some(credential.origin.kind());
        if let Origin::Key(id) = &credential.origin {
            context.api_key = Some(Arc::clone(id));
        }
        known(context, authenticated);
        Ok(())
    }

    fn revoked(&self, credential: &Credential) -> bool {
        self.authority.revocations.revoked(credential)
    }
}

fn refused(refused: Refused) -> Error {
    match refused {
        Refused::Rejected(rejected) => challenge::invalid_token(rejected.0),
        Refused::NoKeys => Error::new(
            ErrorKind::Unavailable,
            "whether the token is good can't be told now: its issuer's keys can't be had",
        )
        .header(header::RETRY_AFTER, HeaderValue::from_static("5")),
    }
}

fn known(context: &mut RequestContext, authenticated: Arc<Authenticated>) {
    _ = context.outcome.principal.set(Arc::clone(&authenticated));
    context.principal = Some(authenticated);
}

/// Keeps the session to ourselves, used or not. Its own endpoints still need to know which one it is.
fn conceal(request: &mut Request) -> Result<(), Error> {
    let route = RequestContext::of(request)?.route()?;
    if session::presented(request.headers())
        && !matches!(route.action, Action::Session(_))
        && !route.policy.forward_credentials
    {
        hide_cookie(request.headers_mut());
    }
    Ok(())
}

/// Takes our cookie out of what the upstream sees, and leaves the others as they are, whatever is in them.
pub(crate) fn hide_cookie(headers: &mut HeaderMap) {
    let lines: Vec<_> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for line in lines {
        let pairs = line.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let others: Vec<_> = pairs.filter(|pair| session::split(pair).0 != session::COOKIE.as_bytes()).collect();
        if let Ok(others) = HeaderValue::from_bytes(&others.join(&b"; "[..]))
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
        // Sessions may be far away, and a key may have to be fetched; nothing else pays for a future of its own.
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
