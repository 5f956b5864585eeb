//! Frames as the broker sends them (docs/broker.md): an object with one member that says what it is, and the `id` that it
//! answers.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    Error,
    told::{EventTold, Gap},
};

/// One member of these is there; what is not known is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Frame {
    pub id: Option<u64>,
    pub welcome: Option<Welcome>,
    pub ok: Option<Value>,
    pub error: Option<Refusal>,
    pub ev: Option<Of<EventTold>>,
    pub gap: Option<Of<Gap>>,
    pub caught_up: Option<Of<At>>,
    pub cursor: Option<Of<At>>,
    pub ended: Option<Of<Why>>,
    pub goaway: Option<Goaway>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Welcome {
    pub ping_ms: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub code: String,
    pub detail: String,
    /// In whole seconds.
    #[serde(default)]
    pub retry_after: Option<u64>,
}

impl From<Refusal> for Error {
    fn from(Refusal { code, detail, retry_after }: Refusal) -> Self {
        Self::new(code, detail).after(retry_after.map(Duration::from_secs))
    }
}

/// What a subscription is told.
#[derive(Debug, Deserialize)]
pub(crate) struct Of<T> {
    pub sub: String,
    #[serde(flatten)]
    pub told: T,
}

#[derive(Debug, Deserialize)]
pub(crate) struct At {
    pub cursor: String,
}

/// A subscription is another connection's now (`taken`), or was removed (`removed`).
#[derive(Debug, Deserialize)]
pub(crate) struct Why {
    pub reason: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Goaway {
    pub reason: String,
    pub retry: bool,
    #[serde(default)]
    pub after_ms: Option<[u64; 2]>,
}
