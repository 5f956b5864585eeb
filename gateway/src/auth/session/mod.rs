//! Sessions: a cookie that names what the gateway keeps. The cookie holds 256 random bits and means nothing without the
//! store; the store holds only its SHA-256, so that what it holds opens nothing. It is this process (`in_process`) or the
//! Redis that gateways share (`in_redis`).

mod in_process;
mod in_redis;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use principal::Principal;
use serde::Serialize;
use time::OffsetDateTime;

use super::{Credential, Origin, keys::digest};
use crate::{
    action::session::{Found, Opened},
    error::{Error, ErrorKind},
    shared::Redis,
};
use in_process::InProcess;
use in_redis::InRedis;

/// The prefix has browsers insist on Secure, Path=/ and no Domain (RFC 6265bis §4.1.3.2).
pub const COOKIE: &str = "__Host-session";

/// How long a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Without a request.
    pub idle: Duration,
    /// Altogether.
    pub absolute: Duration,
}

impl Default for Lifetime {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30 * 60), absolute: Duration::from_secs(12 * 3600) }
    }
}

/// The SHA-256 of a cookie's value.
pub type Id = [u8; 32];

/// A session in the store.
pub struct Session {
    pub credential: Credential,
    pub opened: SystemTime,
}

/// Where sessions are kept. Each of its methods fails where the store can't be reached.
#[async_trait]
trait Store: Send + Sync {
    async fn put(&self, id: Id, session: Session, lifetime: Lifetime) -> Result<(), Error>;
    /// The session, if it lives; it is in use from now.
    async fn touch(&self, id: &Id, now: SystemTime, lifetime: Lifetime) -> Result<Option<Arc<Session>>, Error>;
    async fn remove(&self, id: &Id) -> Result<(), Error>;
    /// Removes the sessions of a subject that were opened before a moment; how many.
    async fn remove_of(&self, subject: &str, before: SystemTime) -> Result<u64, Error>;
    /// A page of about `limit` sessions, in no order. `after`: what the page before says of the next one.
    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, Error>;
}

/// Some of the sessions there are.
#[derive(Debug, Serialize)]
pub struct Page {
    pub sessions: Vec<Listed>,
    /// None: it was the last one.
    pub next: Option<String>,
}

/// A session, for operators. Its id opens nothing: it is the digest of what does.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub id: String,
    pub subject: String,
    pub scopes: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub opened: OffsetDateTime,
}

impl Listed {
    fn new(id: &Id, principal: &Principal, opened: SystemTime) -> Self {
        let (subject, scopes) = (principal.subject.clone(), principal.scopes.clone());
        Self { id: URL_SAFE_NO_PAD.encode(id), subject, scopes, opened: opened.into() }
    }
}

/// Opens, finds and closes sessions.
pub struct Sessions {
    store: Box<dyn Store>,
    lifetime: Mutex<Lifetime>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Sessions {
    /// Kept in Redis, if there is one, else in this process.
    pub fn new(redis: Option<Arc<Redis>>) -> Self {
        let store: Box<dyn Store> = match redis {
            Some(redis) => Box::new(InRedis::new(redis)),
            None => Box::new(InProcess::default()),
        };
        Self { store, lifetime: Mutex::default() }
    }

    /// Changes how long sessions live, those already open included.
    pub fn set_lifetime(&self, lifetime: Lifetime) {
        *self.lifetime.lock() = lifetime;
    }

    /// The live session that a request's cookie names; it is in use from now.
    ///
    /// # Errors
    /// If the store can't be asked.
    pub async fn session(&self, headers: &HeaderMap, now: SystemTime) -> Result<Option<Arc<Session>>, Error> {
        let Some(id) = cookie(headers) else { return Ok(None) };
        let lifetime = self.lifetime();
        self.store.touch(&id, now, lifetime).await
    }

    /// Ends a session, whoever's it is.
    pub async fn revoke(&self, id: &Id) {
        if let Err(error) = self.store.remove(id).await {
            tracing::warn!(cause = error.cause, "a session that was revoked could not be removed");
        }
    }

    /// Ends the sessions of a subject that were opened before a moment.
    pub async fn revoke_all(&self, subject: &str, before: OffsetDateTime) {
        if let Err(error) = self.store.remove_of(subject, before.into()).await {
            tracing::warn!(cause = error.cause, "sessions that were revoked could not be removed");
        }
    }

    /// A page of the sessions there are, for operators.
    ///
    /// # Errors
    /// If the store can't be asked.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, Error> {
        self.store.list(after, limit).await
    }

    fn lifetime(&self) -> Lifetime {
        *self.lifetime.lock()
    }

    fn expires(&self, opened: SystemTime) -> OffsetDateTime {
        OffsetDateTime::from(opened + self.lifetime().absolute)
    }
}

impl Session {
    fn new(id: &Id, principal: Principal, opened: SystemTime) -> Self {
        Self { credential: Credential::new(principal, Origin::Session(*id), Some(opened.into())), opened }
    }

    /// Whether its time is not over yet, however busy it is.
    fn lives(&self, now: SystemTime, lifetime: Lifetime) -> bool {
        now.duration_since(self.opened).unwrap_or_default() < lifetime.absolute
    }
}

#[async_trait]
impl crate::action::session::Sessions for Sessions {
    async fn open(&self, principal: Principal, headers: &HeaderMap) -> Result<Opened, Error> {
        // A new name at every log-in: one that was planted before leads nowhere.
        if let Some(old) = cookie(headers) {
            self.store.remove(&old).await?;
        }
        let value = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let (opened, lifetime) = (SystemTime::now(), self.lifetime());
        let id = digest(value.as_bytes());
        self.store.put(id, Session::new(&id, principal, opened), lifetime).await?;
        let (expires, seconds) = (self.expires(opened), lifetime.absolute.as_secs());
        Ok(Opened { set_cookie: set_cookie(&value, seconds)?, expires })
    }

    async fn find(&self, headers: &HeaderMap) -> Result<Option<Found>, Error> {
        let session = self.session(headers, SystemTime::now()).await?;
        Ok(session.map(|session| Found {
            principal: session.credential.principal.clone(),
            expires: self.expires(session.opened),
        }))
    }

    async fn close(&self, headers: &HeaderMap) -> Result<HeaderValue, Error> {
        if let Some(id) = cookie(headers) {
            self.store.remove(&id).await?;
        }
        set_cookie("", 0)
    }

    async fn close_all(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Error> {
        let now = SystemTime::now();
        let Some(session) = self.session(headers, now).await? else { return Ok(None) };
        self.store.remove_of(&session.credential.principal.subject, now).await?;
        self.close(headers).await.map(Some)
    }
}

/// Whether a request brings a session cookie, good or not.
pub fn presented(headers: &HeaderMap) -> bool {
    value(headers).is_some()
}

fn cookie(headers: &HeaderMap) -> Option<Id> {
    value(headers).map(digest)
}

fn value(headers: &HeaderMap) -> Option<&[u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        // Other cookies may hold anything.
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(split)
        .find(|(name, value)| *name == COOKIE.as_bytes() && !value.is_empty())
        .map(|(_, value)| value)
}

/// The name and value of one cookie, without the whitespace that servers make nothing of.
pub fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    let name = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
    (pair[..name].trim_ascii(), pair.get(name + 1..).unwrap_or_default().trim_ascii())
}

fn set_cookie(value: &str, seconds: u64) -> Result<HeaderValue, Error> {
    let text = format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    let mut value = HeaderValue::try_from(text)
        .map_err(|error| Error::new(ErrorKind::Internal, "the session could not be opened").cause(error))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::session::Sessions as _;

    fn carrying(set_cookie: &HeaderValue) -> HeaderMap {
        let pair = set_cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let line = format!("a=b; {pair}; c=d");
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(line).unwrap())])
    }

    fn alice() -> Principal {
        Principal { subject: "customers/alice".to_owned(), ..Principal::default() }
    }

    async fn subject(sessions: &Sessions, headers: &HeaderMap, now: SystemTime) -> Option<String> {
        let session = sessions.session(headers, now).await.unwrap_or_else(|_| panic!("the store answers"));
        session.map(|session| session.credential.principal.subject.clone())
    }

    #[tokio::test]
    async fn a_session_ends_at_log_out() {
        let sessions = Sessions::default();
        let opened = sessions.open(alice(), &HeaderMap::new()).await.unwrap_or_else(|_| panic!("opens"));
        let text = opened.set_cookie.to_str().unwrap().to_owned();
        assert!(text.contains("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=43200"), "{text}");
        let headers = carrying(&opened.set_cookie);
        assert_eq!(subject(&sessions, &headers, SystemTime::now()).await.as_deref(), Some("customers/alice"));
        let cleared = sessions.close(&headers).await.unwrap_or_else(|_| panic!("closes"));
        assert!(cleared.to_str().unwrap().contains("Max-Age=0"));
        assert_eq!(subject(&sessions, &headers, SystemTime::now()).await, None);
    }

    #[tokio::test]
    async fn logging_in_again_ends_the_session_before() {
        let sessions = Sessions::default();
        let first = sessions.open(alice(), &HeaderMap::new()).await.unwrap_or_else(|_| panic!("opens"));
        let headers = carrying(&first.set_cookie);
        let second = sessions.open(alice(), &headers).await.unwrap_or_else(|_| panic!("opens"));
        assert_eq!(subject(&sessions, &headers, SystemTime::now()).await, None);
        assert!(subject(&sessions, &carrying(&second.set_cookie), SystemTime::now()).await.is_some());
    }

    #[tokio::test]
    async fn all_sessions_of_one_end_at_once_and_nobody_elses() {
        let sessions = Sessions::default();
        let open = async |who: Principal| {
            carrying(&sessions.open(who, &HeaderMap::new()).await.unwrap_or_else(|_| panic!("opens")).set_cookie)
        };
        let (one, two) = (open(alice()).await, open(alice()).await);
        let bob = open(Principal { subject: "customers/bob".to_owned(), ..Principal::default() }).await;
        let page = sessions.list(None, 2).await.unwrap_or_else(|_| panic!("lists"));
        assert_eq!(page.sessions.len(), 2);
        let rest = sessions.list(page.next.as_deref(), 2).await.unwrap_or_else(|_| panic!("lists"));
        assert_eq!((rest.sessions.len(), rest.next), (1, None));
        let cleared = sessions.close_all(&one).await.unwrap_or_else(|_| panic!("closes"));
        assert!(cleared.unwrap().to_str().unwrap().contains("Max-Age=0"));
        for headers in [&one, &two] {
            assert_eq!(subject(&sessions, headers, SystemTime::now()).await, None);
        }
        assert!(subject(&sessions, &bob, SystemTime::now()).await.is_some());
        assert!(sessions.close_all(&one).await.unwrap_or_else(|_| panic!("answers")).is_none(), "there is no session");
    }

    #[tokio::test]
    async fn a_session_ends_idle_and_at_the_latest_after_its_time() {
        let sessions = Sessions::default();
        let minute = Duration::from_secs(60);
        let idle = sessions.open(alice(), &HeaderMap::new()).await.unwrap_or_else(|_| panic!("opens"));
        let busy = sessions.open(alice(), &HeaderMap::new()).await.unwrap_or_else(|_| panic!("opens"));
        let (idle, busy) = (carrying(&idle.set_cookie), carrying(&busy.set_cookie));
        let start = SystemTime::now();
        let mut last = 0;
        for minutes in (0..800).step_by(20) {
            if subject(&sessions, &busy, start + minutes * minute).await.is_some() {
                last = minutes;
            }
        }
        assert_eq!(last, 700, "twelve hours are over before minute 720");
        assert_eq!(subject(&sessions, &idle, start + 31 * minute).await, None);
    }
}
