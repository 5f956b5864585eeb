//! Sessions that all gateways know. Redis is asked with every request, so that a log-out counts everywhere at once; it
//! forgets a session that is idle for too long by itself.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use principal::Principal;
use redis::{Cmd, Expiry};
use serde::{Deserialize, Serialize};

use super::{Id, Lifetime, Session, Store};
use crate::{
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
        let session = Arc::new(Session::new(principal, SystemTime::UNIX_EPOCH + Duration::from_millis(opened)));
        self.at_hand.insert(*id, (record, Arc::clone(&session)));
        Ok(session)
    }
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
        let opened = session.opened.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let record = Record { principal: session.credential.principal, opened: milliseconds(opened) };
        let record = serde_json::to_vec(&record).map_err(|error| lost(error.to_string()))?;
        if record.len() > RECORD {
            return Err(lost(format!("its record has {} bytes, more than {RECORD}", record.len())));
        }
        let put = Cmd::pset_ex(keys::session(&id), record, milliseconds(lifetime.idle));
        self.redis.ask(command(put)).await.map_err(refusal)
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
}
