//! Sessions that all gateways know. Redis is asked with every request, so that a log-out counts everywhere at once; it
//! forgets a session that is idle for too long by itself.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use principal::Principal;
use redis::{Cmd, Expiry, FromRedisValue, Pipeline, RedisResult};
use serde::{Deserialize, Serialize};

use super::{Id, Lifetime, Listed, Page, Session, Store};
use crate::{
    auth::keys::digest,
    error::{Error, ErrorKind},
    recent::Recent,
    shared::{Away, Redis, command, keys},
};

/// Sessions whose signed tokens are at hand; any other is signed anew.
const AT_HAND: usize = 10_000;
/// The largest record, in bytes.
const RECORD: usize = 16 * 1024;

pub struct InRedis {
    redis: Arc<Redis>,
    /// What a record was read as the last time. The record itself comes from Redis each time.
    at_hand: Recent<Id, (Vec<u8>, Arc<Session>)>,
}

/// A session as it is stored.
#[derive(Deserialize, Serialize)]
struct Record {
    principal: Principal,
    /// Milliseconds of the Unix epoch.
    opened: u64,
}

impl InRedis {
    pub fn new(redis: Arc<Redis>) -> Self {
        Self { redis, at_hand: Recent::new(AT_HAND) }
    }

    /// The session that a record describes: the one from the last time, with its token, if the record is still the same.
    fn read(&self, id: &Id, record: Vec<u8>) -> Result<Arc<Session>, Error> {
        if let Some(Some(session)) =
            self.at_hand.get(id, |(known, session)| (*known == record).then(|| Arc::clone(session)))
        {
            return Ok(session);
        }
        let Record { principal, opened } = serde_json::from_slice(&record)
            .map_err(|error| Error::new(ErrorKind::Internal, "the session can't be read").cause(error))?;
        let session = Arc::new(Session::new(id, principal, SystemTime::UNIX_EPOCH + Duration::from_millis(opened)));
        self.at_hand.insert(*id, (record, Arc::clone(&session)));
        Ok(session)
    }
}

fn since(time: SystemTime) -> u64 {
    milliseconds(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn refusal(away: Away) -> Error {
    away.refusal("sessions can't be had now")
}

#[async_trait]
impl Store for InRedis {
    async fn put(&self, id: Id, session: Session, lifetime: Lifetime) -> Result<(), Error> {
        let lost = |cause: String| Error::new(ErrorKind::Internal, "the session could not be opened").cause(cause);
        let opened = since(session.opened);
        let of = keys::sessions_of(&digest(session.credential.principal.subject.as_bytes()));
        let record = Record { principal: session.credential.principal, opened };
        let record = serde_json::to_vec(&record).map_err(|error| lost(error.to_string()))?;
        if record.len() > RECORD {
            return Err(lost(format!("its record has {} bytes, more than {RECORD}", record.len())));
        }
        let absolute = milliseconds(lifetime.absolute);
        // On a Cluster the two lie in different slots. A session that isn't on the list was never given to anybody.
        let put = Cmd::pset_ex(keys::session(&id), record, milliseconds(lifetime.idle));
        self.redis.ask(command::<()>(put)).await.map_err(refusal)?;
        // Harmless twice, as whatever is asked must be.
        let mut list = redis::pipe();
        list.atomic()
            .zrembyscore(&of, "-inf", opened.saturating_sub(absolute))
            .zadd(&of, URL_SAFE_NO_PAD.encode(id), opened)
            .pexpire(&of, i64::try_from(absolute).unwrap_or(i64::MAX));
        self.redis.ask(all::<()>(list)).await.map_err(refusal)
    }

    async fn touch(&self, id: &Id, now: SystemTime, lifetime: Lifetime) -> Result<Option<Arc<Session>>, Error> {
        let get = Cmd::get_ex(keys::session(id), Expiry::PX(milliseconds(lifetime.idle)));
        let record: Option<Vec<u8>> = self.redis.ask(command(get)).await.map_err(refusal)?;
        let Some(record) = record else {
            self.at_hand.remove(id);
            return Ok(None);
        };
        let session = self.read(id, record)?;
        if session.lives(now, lifetime) {
            return Ok(Some(session));
        }
        self.remove(id).await?;
        Ok(None)
    }

    async fn remove(&self, id: &Id) -> Result<(), Error> {
        self.at_hand.remove(id);
        self.redis.ask(command(Cmd::del(keys::session(id)))).await.map_err(refusal)
    }

    async fn remove_of(&self, subject: &str, before: SystemTime) -> Result<u64, Error> {
        let of = keys::sessions_of(&digest(subject.as_bytes()));
        let before = format!("({}", since(before));
        let ids: Vec<String> =
            self.redis.ask(command(Cmd::zrangebyscore(&of, "-inf", &before))).await.map_err(refusal)?;
        let ids: Vec<Id> = ids.iter().filter_map(|id| URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        let mut remove = redis::pipe();
        for id in &ids {
            self.at_hand.remove(id);
            remove.del(keys::session(id));
        }
        self.redis.ask(all::<()>(remove)).await.map_err(refusal)?;
        // Who asks again after a failure finds on the list what may still be there.
        self.redis.ask(command::<()>(Cmd::zrembyscore(&of, "-inf", &before))).await.map_err(refusal)?;
        Ok(ids.len() as u64)
    }

    /// By SCAN, of one node after the other: a page may have a few more or none at all, and what stays throughout is on one
    /// of them.
    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, Error> {
        let from = after.and_then(Cursor::read).unwrap_or_default();
        let (next, names) = self.redis.ask(move |redis| from.scan(redis, limit)).await.map_err(refusal)?;
        let ids: Vec<Id> = names.iter().filter_map(|name| keys::session_id(name)).collect();
        let mut sessions = Vec::new();
        if !ids.is_empty() {
            let mut get = redis::pipe();
            for id in &ids {
                get.get(keys::session(id));
            }
            let records: Vec<Option<Vec<u8>>> = self.redis.ask(all(get)).await.map_err(refusal)?;
            for (id, record) in ids.iter().zip(records) {
                if let Some(record) = record.and_then(|record| serde_json::from_slice::<Record>(&record).ok()) {
                    let opened = SystemTime::UNIX_EPOCH + Duration::from_millis(record.opened);
                    sessions.push(Listed::new(id, &record.principal, opened));
                }
            }
        }
        Ok(Page { sessions, next: next.map(|next| next.to_string()) })
    }
}

/// Where a page of sessions begins: at which of the servers that have data, and there at what SCAN told.
#[derive(Clone, Copy, Default)]
struct Cursor {
    node: usize,
    scanned: u64,
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        let (node, scanned) = text.split_once('.')?;
        Some(Self { node: node.parse().ok()?, scanned: scanned.parse().ok()? })
    }

    /// The keys of a page, and where the next one begins, if there is one.
    async fn scan(self, redis: redial::Redis, limit: usize) -> RedisResult<(Option<Self>, Vec<String>)> {
        let nodes = redis.nodes().await?;
        // Fewer than there were.
        let Some(node) = nodes.get(self.node) else { return Ok((None, Vec::new())) };
        let mut scan = redis::cmd("SCAN");
        scan.arg(self.scanned).arg("MATCH").arg(keys::EVERY_SESSION).arg("COUNT").arg(limit);
        let (scanned, names): (u64, Vec<String>) = redis::from_redis_value(redis.ask_node(node, &scan).await?)?;
        let next = match (scanned, self.node + 1) {
            (0, next) => (next < nodes.len()).then_some(Self { node: next, scanned }),
            (scanned, _) => Some(Self { scanned, ..self }),
        };
        Ok((next, names))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.scanned)
    }
}

/// Commands as one question; on a Cluster each goes where its key is.
fn all<T: FromRedisValue>(
    commands: Pipeline,
) -> impl Fn(redial::Redis) -> BoxFuture<'static, RedisResult<T>> + Send + 'static {
    move |mut redis| {
        let commands = commands.clone();
        Box::pin(async move { commands.query_async(&mut redis).await })
    }
}
