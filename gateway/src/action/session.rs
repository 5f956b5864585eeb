//! `POST` logs in, `GET` says who one is, `DELETE` logs out, with `?all=true` wherever one is logged in. What a session is and where it lives is the store's affair.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use principal::Principal;
use prost::Message as _;
use proto::turnpike::auth::v1::{AuthenticateRequest, AuthenticateResponse};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use upstream::{Body, Options};

use super::{ConfigError, body, metadata::Forward, status};
use crate::{
    auth::Kind,
    context::RequestContext,
    error::{Error, ErrorKind, Violation},
    worker::{UpstreamId, Worker},
};

/// Where credentials are checked: `session: { upstream: customer }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub upstream: String,
    /// A method with the contract of `turnpike.auth.v1.Authenticator/Authenticate`, which is the default.
    #[serde(default = "authenticate")]
    pub login: String,
}

fn authenticate() -> String {
    "turnpike.auth.v1.Authenticator/Authenticate".to_owned()
}

/// What this action needs of the session store.
#[async_trait::async_trait]
pub trait Sessions: Send + Sync {
    /// Opens a session and ends the one that `headers` (of the log-in request) carry, if any. The `Set-Cookie` value
    /// goes to the client.
    async fn open(&self, principal: Principal, headers: &HeaderMap) -> Result<Opened, Error>;
    /// The live session that the request's cookie names.
    async fn find(&self, headers: &HeaderMap) -> Result<Option<Found>, Error>;
    /// Ends the session that the request's cookie names, if there is one; the value is the `Set-Cookie` that clears it.
    async fn close(&self, headers: &HeaderMap) -> Result<HeaderValue, Error>;
    /// The same for every session of whoever's session it is. None: the cookie names no session.
    async fn close_all(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Error>;
}

/// A session just opened.
pub struct Opened {
    pub set_cookie: HeaderValue,
    pub expires: OffsetDateTime,
}

/// A session that is still open.
pub struct Found {
    pub principal: Principal,
    pub expires: OffsetDateTime,
}

pub struct Session {
    upstream: UpstreamId,
    /// `/package.Service/Method`.
    login: String,
    forward: Forward,
    sessions: Arc<dyn Sessions>,
}

/// What `POST` takes. Its password must not be shown, hence no `Debug`.
struct Credentials {
    email: String,
    password: String,
}

/// Who one is.
#[derive(Serialize)]
struct Identity<'a> {
    subject: &'a str,
    scopes: &'a [String],
    claims: &'a BTreeMap<String, String>,
    /// When the session ends; null for a principal without one, such as an API key.
    #[serde(with = "time::serde::rfc3339::option")]
    expires: Option<OffsetDateTime>,
}

impl Session {
    /// The caller resolves `config.upstream`.
    ///
    /// # Errors
    /// A log-in method that isn't of the form `package.Service/Method`.
    pub fn new(config: &Config, upstream: UpstreamId, sessions: Arc<dyn Sessions>) -> Result<Self, Vec<ConfigError>> {
        let login = format!("/{}", config.login);
        let is_method = config.login.split('/').filter(|name| !name.is_empty()).count() == 2
            && http::uri::PathAndQuery::try_from(login.as_str()).is_ok();
        if !is_method {
            return Err(vec![ConfigError::new("login", "must be of the form package.Service/Method")]);
        }
        let forward = Forward::new::<&str>(&[])?;
        Ok(Self { upstream, login, forward, sessions })
    }

    pub fn upstream(&self) -> UpstreamId {
        self.upstream
    }

    pub async fn call(
        &self,
        worker: &Worker,
        request: Request<Body>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let (head, body) = request.into_parts();
        match head.method {
            Method::POST => {
                let body = body::json(&head.headers, body, context).await?;
                self.log_in(worker, &head.headers, &body, context).await
            }
            Method::GET | Method::HEAD => self.who(&head.headers, context).await,
            Method::DELETE => self.log_out(head.uri.query(), &head.headers).await,
            _ => Err(Error::new(ErrorKind::MethodNotAllowed, "a session is opened, read or closed")
                .header(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, DELETE"))),
        }
    }

    async fn log_in(
        &self,
        worker: &Worker,
        headers: &HeaderMap,
        body: &[u8],
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let credentials = Credentials::read(body)?;
        let message = AuthenticateRequest { email: credentials.email, password: credentials.password }.encode_to_vec();
        let metadata = self.forward.metadata(headers, context);
        let options = Options { deadline: Some(context.deadline), idempotent: false, ..Options::default() };
        let reply = worker.client(self.upstream).unary(&self.login, metadata, message.into(), options).await;
        let reply = reply.map_err(|failed| status::error(&failed))?;
        let who = AuthenticateResponse::decode(reply.message)
            .map_err(|error| Error::new(ErrorKind::BadGateway, "the service gave no valid answer").cause(error))?;
        if who.subject.is_empty() {
            return Err(Error::new(ErrorKind::BadGateway, "the service gave no valid answer").cause("no subject"));
        }
        let principal =
            Principal { subject: who.subject, scopes: who.scopes, claims: who.claims.into_iter().collect() };
        let opened = self.sessions.open(principal.clone(), headers).await?;
        let mut response = identity(&principal, Some(opened.expires))?;
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().insert(header::SET_COOKIE, opened.set_cookie);
        Ok(response)
    }

    async fn who(&self, headers: &HeaderMap, context: &RequestContext) -> Result<Response<Body>, Error> {
        // A key or a token goes before a session, here as on every route.
        if context.kind.is_none_or(|kind| kind == Kind::Session)
            && let Some(found) = self.sessions.find(headers).await?
        {
            return identity(&found.principal, Some(found.expires));
        }
        match &context.principal {
            Some(authenticated) => identity(&authenticated.principal, None),
            None => Err(Error::new(ErrorKind::Unauthenticated, "there is no session")),
        }
    }

    async fn log_out(&self, query: Option<&str>, headers: &HeaderMap) -> Result<Response<Body>, Error> {
        let cleared = match query {
            None | Some("" | "all=false") => self.sessions.close(headers).await?,
            Some("all=true") => self
                .sessions
                .close_all(headers)
                .await?
                .ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "there is no session"))?,
            Some(_) => return Err(Error::new(ErrorKind::BadRequest, "a log-out takes the parameter all=true alone")),
        };
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(header::SET_COOKIE, cleared);
        Ok(response)
    }
}

impl Credentials {
    /// Reads `{"email": …, "password": …}`. No error repeats what was sent: it may be a password.
    fn read(body: &[u8]) -> Result<Self, Error> {
        let mut members: BTreeMap<String, serde_json::Value> = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Error::new(ErrorKind::BadRequest, format!("the body must be a JSON object: line {line}, column {column}"))
        })?;
        let mut violations = Vec::new();
        let mut violation = |field: &str, reason: &str| {
            violations.push(Violation { field: field.to_owned(), reason: reason.to_owned() });
        };
        let mut text = |field: &str| match members.remove(field) {
            Some(serde_json::Value::String(text)) => text,
            _ => {
                violation(field, "must be a string");
                String::new()
            }
        };
        let credentials = Self { email: text("email"), password: text("password") };
        for unknown in members.keys().take(16) {
            violation(&unknown.chars().take(64).collect::<String>(), "is not a known field");
        }
        if violations.is_empty() {
            Ok(credentials)
        } else {
            Err(Error::new(ErrorKind::Invalid, "the request is not valid").violations(violations))
        }
    }
}

fn identity(principal: &Principal, expires: Option<OffsetDateTime>) -> Result<Response<Body>, Error> {
    let Principal { subject, scopes, claims } = principal;
    let json = serde_json::to_vec(&Identity { subject, scopes, claims, expires })
        .map_err(|error| Error::new(ErrorKind::Internal, "the session can't be shown").cause(error))?;
    let mut response = Response::new(Body::from(Bytes::from(json)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
