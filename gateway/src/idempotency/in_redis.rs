//! Records that all gateways know; Redis forgets them when their time is over.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use async_trait::async_trait;
use redis::{Cmd, ExistenceCheck, Script, SetExpiry, SetOptions};

use super::{Id, Record, Store};
use crate::{
    error::{Error, ErrorKind},
    shared::{Away, Redis, command, keys},
};

/// Removes what is still the same.
static FORGET: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")
});

pub struct InRedis(Arc<Redis>);

impl InRedis {
    pub fn new(redis: Arc<Redis>) -> Self {
        Self(redis)
    }
}

fn write(record: &Record) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record)
        .map_err(|error| Error::new(ErrorKind::Internal, "the answer could not be kept").cause(error))
}

fn expiry(keep: Duration) -> SetExpiry {
    SetExpiry::PX(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).max(1))
}

fn refusal(away: Away) -> Error {
    away.refusal("whether this was done already can't be known now")
}

#[async_trait]
impl Store for InRedis {
    async fn begin(&self, id: Id, record: &Record, keep: Duration) -> Result<Option<Record>, Error> {
        let written = write(record)?;
        let options = SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(expiry(keep)).get(true);
        let begin = Cmd::set_options(keys::idempotency(&id), written, options);
        let known: Option<Vec<u8>> = self.0.ask(command(begin)).await.map_err(refusal)?;
        let read = |text: Vec<u8>| {
            serde_json::from_slice(&text).map_err(|error| {
                Error::new(ErrorKind::Internal, "what was answered the first time can't be read").cause(error)
            })
        };
        // One that was put by ourselves, asking for the second time, was not there.
        Ok(known.map(read).transpose()?.filter(|known| known != record))
    }

    async fn complete(&self, id: Id, record: Record, keep: Duration) -> Result<(), Error> {
        let record = write(&record)?;
        let options = SetOptions::default().with_expiration(expiry(keep));
        let put = Cmd::set_options(keys::idempotency(&id), record, options);
        self.0.ask(command(put)).await.map_err(refusal)
    }

    async fn forget(&self, id: Id, record: &Record) -> Result<(), Error> {
        let record = write(record)?;
        let forget = self.0.ask(move |mut redis| {
            let (key, record) = (keys::idempotency(&id), record.clone());
            async move { FORGET.key(key).arg(record).invoke_async(&mut redis).await }
        });
        forget.await.map_err(refusal)
    }
}
