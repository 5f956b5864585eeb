//! Requests that are done once however often they are sent (draft-ietf-httpapi-idempotency-key-header-07): what is known
//! of a key, of a caller, on a route. Kept in this process (`in_process`) or in the Redis that gateways share (`in_redis`).
//!
//! A record is begun before the request goes on, and completed with the answer. Only an answer below 400 is kept: a refusal
//! did nothing, and what it refused may be mended and sent again under its key. Who dies on the way leaves a record that
//! ends by itself; whether the request was done then is for the service to know, which gets the key too.

mod in_process;
mod in_redis;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{auth::keys::digest, error::Error, shared::Redis};
use in_process::InProcess;
use in_redis::InRedis;

/// The largest answer that is kept, in bytes of its body.
pub const ANSWER: usize = 256 * 1024;

/// Digest of caller, route and key.
pub type Id = [u8; 32];

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Record {
    /// Of the request that brought it first.
    pub fingerprint: String,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Being answered, by whoever wrote this number.
    InFlight(u64),
    Answered(Answer),
}

/// An answer, as far as it is given again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    #[serde(with = "base64_text")]
    pub body: Vec<u8>,
}

/// Where records are kept. Each of its methods fails where the store can't be reached.
#[async_trait]
trait Store: Send + Sync {
    /// Puts a record where there is none, for so long. Returns the one that was there.
    async fn begin(&self, id: Id, record: &Record, keep: Duration) -> Result<Option<Record>, Error>;
    /// Puts a record in any case.
    async fn complete(&self, id: Id, record: Record, keep: Duration) -> Result<(), Error>;
    /// Removes a record, if it is still this one.
    async fn forget(&self, id: Id, record: &Record) -> Result<(), Error>;
}

/// The records of all keys.
pub struct Records(Box<dyn Store>);

/// What a request may do.
pub enum Begun {
    /// It is the first: it goes on, and this is its record.
    First(Pending),
    /// It was done before.
    Answered(Answer),
    /// It is being done.
    InFlight,
    /// Its key belongs to another request.
    Mismatch,
}

/// A record that waits for its answer.
pub struct Pending {
    records: Arc<Records>,
    id: Id,
    record: Record,
}

impl Records {
    /// In Redis, if there is one, else in this process.
    pub fn new(redis: Option<Arc<Redis>>) -> Self {
        Self(match redis {
            Some(redis) => Box::new(InRedis::new(redis)),
            None => Box::new(InProcess::default()),
        })
    }

    /// `keep`: how long it counts as in flight should nothing more be heard of it.
    ///
    /// # Errors
    /// If the store can't be reached.
    pub async fn begin(self: &Arc<Self>, id: Id, fingerprint: String, keep: Duration) -> Result<Begun, Error> {
        let record = Record { fingerprint, state: State::InFlight(rand::random()) };
        Ok(match self.0.begin(id, &record, keep).await? {
            None => Begun::First(Pending { records: Arc::clone(self), id, record }),
            Some(known) if known.fingerprint != record.fingerprint => Begun::Mismatch,
            Some(Record { state: State::InFlight(_), .. }) => Begun::InFlight,
            Some(Record { state: State::Answered(answer), .. }) => Begun::Answered(answer),
        })
    }
}

impl Pending {
    /// Keeps the answer.
    ///
    /// # Errors
    /// If the store can't be reached.
    pub async fn complete(self, answer: Answer, keep: Duration) -> Result<(), Error> {
        let record = Record { fingerprint: self.record.fingerprint, state: State::Answered(answer) };
        self.records.0.complete(self.id, record, keep).await
    }

    /// There is no answer to keep: the next request is the first again.
    ///
    /// # Errors
    /// If the store can't be reached.
    pub async fn forget(self) -> Result<(), Error> {
        self.records.0.forget(self.id, &self.record).await
    }
}

/// One digest of several parts, which can't run into each other.
pub fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let digests: Vec<u8> = parts.iter().flat_map(|part| digest(part)).collect();
    digest(&digests)
}

mod base64_text {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in Redis must be read by the next version.
    #[test]
    fn a_record_is_written_as_it_always_was() {
        let answer = Answer {
            status: 201,
            headers: vec![("location".to_owned(), "/orders/1".to_owned())],
            body: b"{}".to_vec(),
        };
        let answered = Record { fingerprint: "f".to_owned(), state: State::Answered(answer) };
        let golden = r#"{"fingerprint":"f","state":{"answered":{"status":201,"headers":[["location","/orders/1"]],"body":"e30="}}}"#;
        assert_eq!(serde_json::to_string(&answered).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Record>(golden).unwrap(), answered);
        let in_flight = Record { fingerprint: "f".to_owned(), state: State::InFlight(7) };
        assert_eq!(serde_json::to_string(&in_flight).unwrap(), r#"{"fingerprint":"f","state":{"in_flight":7}}"#);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(digest_of(&[b"ab", b"c"]), digest_of(&[b"a", b"bc"]));
    }
}
