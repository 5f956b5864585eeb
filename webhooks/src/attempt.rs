//! What is remembered of an attempt: 30 days, and of an endpoint the last 5,000.

use std::time::Duration;

use time::OffsetDateTime;

use crate::Class;

/// A request to an endpoint, and what came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The event's id, which is the `webhook-id`.
    pub event: String,
    pub source: String,
    /// `ORDERS/PLACED`.
    pub address: String,
    /// Which one at the event: 1 for the first; 0: a trial.
    pub number: u32,
    pub at: OffsetDateTime,
    pub took: Duration,
    pub class: Class,
    pub status: Option<u16>,
    /// None where it succeeded.
    pub error: Option<String>,
    /// The first 4 KiB of what the receiver answered.
    pub answer: Vec<u8>,
}

/// Which attempts of an endpoint, newest first.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    /// Those before this place of a page.
    pub before: Option<i64>,
    /// Those at the event of this id.
    pub event: Option<String>,
    /// Those alone that failed.
    pub failed: bool,
}
