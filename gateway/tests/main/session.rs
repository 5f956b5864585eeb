//! Logging in and out by a gRPC method, in front of a store of sessions.

use std::sync::{Arc, Mutex};

use gateway::{
    Body,
    action::session::{Config, Found, Opened, Session, Sessions},
    context::Authenticated,
    error::{Error, ErrorKind},
    worker::UpstreamId,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use principal::Principal;
use prost::Message as _;
use proto::turnpike::auth::v1::{AuthenticateRequest, AuthenticateResponse};
use serde_json::json;
use time::OffsetDateTime;

use crate::library::{Answer, Library, context, json, violations, worker};

/// One session at most, under the cookie `s=1`.
#[derive(Default)]
struct Store(Mutex<Option<Principal>>);

fn end() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

#[async_trait::async_trait]
impl Sessions for Store {
    async fn open(&self, principal: Principal, _headers: &HeaderMap) -> Result<Opened, Error> {
        *self.0.lock().unwrap() = Some(principal);
        Ok(Opened { set_cookie: HeaderValue::from_static("s=1"), expires: end() })
    }

    async fn find(&self, headers: &HeaderMap) -> Result<Option<Found>, Error> {
        let principal = self.0.lock().unwrap().clone().filter(|_| headers.contains_key("cookie"));
        Ok(principal.map(|principal| Found { principal, expires: end() }))
    }

    async fn close(&self, _headers: &HeaderMap) -> Result<HeaderValue, Error> {
        *self.0.lock().unwrap() = None;
        Ok(HeaderValue::from_static("s=; Max-Age=0"))
    }

    async fn close_all(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Error> {
        let known = self.0.lock().unwrap().is_some();
        Ok(if known { Some(self.close(headers).await?) } else { None })
    }
}

/// Knows one customer.
pub async fn authenticator() -> Library {
    Library::start(|call| {
        let request = AuthenticateRequest::decode(call.message.clone()).unwrap();
        if (request.email.as_str(), request.password.as_str()) != ("a@example.com", "secret") {
            return Answer::Status(16, "e-mail or password is wrong", Vec::new());
        }
        let claims = [("name".to_owned(), "Ada".to_owned())].into();
        let who = AuthenticateResponse { subject: "customers/1".into(), scopes: vec!["shop".into()], claims };
        Answer::Raw(who.encode_to_vec().into())
    })
    .await
}

struct Route {
    action: Session,
    library: Library,
}

impl Route {
    async fn new() -> Self {
        let config: Config = serde_json::from_value(json!({"upstream": "customer"})).unwrap();
        let action = Session::new(&config, UpstreamId(0), Arc::new(Store::default()));
        Self { action: action.unwrap_or_else(|errors| panic!("{errors:?}")), library: authenticator().await }
    }

    async fn send(&self, method: Method, cookie: bool, body: &str) -> Result<Response<Body>, Error> {
        let mut request = Request::builder().method(method).header("content-type", "application/json");
        if cookie {
            request = request.header("cookie", "s=1");
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.action.call(&worker(&[self.library.address]), request, &context(&[])).await
    }
}

pub const GOOD: &str = r#"{"email": "a@example.com", "password": "secret"}"#;

#[tokio::test]
async fn logging_in_opens_a_session_that_says_who_one_is_until_logging_out() {
    let route = Route::new().await;
    assert_eq!(route.send(Method::GET, true, "").await.unwrap_err().kind, ErrorKind::Unauthenticated);
    let who = json!({
        "subject": "customers/1", "scopes": ["shop"], "claims": {"name": "Ada"}, "expires": "2027-01-15T08:00:00Z"
    });
    let response = route.send(Method::POST, false, GOOD).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["set-cookie"], "s=1");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(json(response).await, who);
    let response = route.send(Method::GET, true, "").await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(json(response).await, who);
    let response = route.send(Method::DELETE, true, "").await.unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["set-cookie"], "s=; Max-Age=0");
    assert_eq!(route.send(Method::GET, true, "").await.unwrap_err().kind, ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn wrong_credentials_open_nothing() {
    let route = Route::new().await;
    let wrong = r#"{"email": "a@example.com", "password": "guess"}"#;
    assert_eq!(route.send(Method::POST, false, wrong).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    assert_eq!(route.send(Method::GET, true, "").await.unwrap_err().kind, ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn credentials_of_another_shape_never_reach_the_service() {
    let route = Route::new().await;
    for body in ["", "[]", "{\"email\"", "\"secret\""] {
        let error = route.send(Method::POST, false, body).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadRequest, "{body}");
        assert!(!error.detail.contains("secret"));
    }
    let body = r#"{"email": "a", "password": 12345, "admin": true}"#;
    let error = route.send(Method::POST, false, body).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(violations(&error), [("password", "must be a string"), ("admin", "is not a known field")]);
    assert!(route.library.calls().is_empty());
}

#[tokio::test]
async fn who_came_by_an_api_key_is_known_without_a_session() {
    let route = Route::new().await;
    let principal = Principal { subject: "operators/1".into(), ..Principal::default() };
    let token = HeaderValue::from_static("signed");
    let mut context = context(&[]);
    context.principal = Some(Arc::new(Authenticated { principal, token }));
    let request = Request::builder().body(Body::empty()).unwrap();
    let response = route.action.call(&worker(&[route.library.address]), request, &context).await.unwrap();
    assert_eq!(json(response).await, json!({"subject": "operators/1", "scopes": [], "claims": {}, "expires": null}));
}

#[test]
fn a_log_in_that_is_no_method_is_refused_when_it_loads() {
    for login in ["", "Authenticate", "/a/b/c", "a/"] {
        let config = Config { upstream: "customer".into(), login: login.into() };
        assert!(Session::new(&config, UpstreamId(0), Arc::new(Store::default())).is_err(), "{login}");
    }
}
