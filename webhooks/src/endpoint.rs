//! An endpoint: where events go, which, and how.

use std::{sync::Arc, time::Duration};

use events::{Name, Pattern};
use secrecy::SecretString;
use time::OffsetDateTime;

use crate::{Error, Signature, ack::AckKey, guard::Guard, secret::Secret};

const MOST_FILTER_BYTES: usize = 4096;
const MOST_PATTERNS: usize = 64;
const MOST_DESCRIPTION_BYTES: usize = 512;
/// How long a receiver may take to acknowledge what it has accepted.
const ACK_WITHIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(12 * 3600));
pub(crate) const ACK_DEFAULT: Duration = Duration::from_secs(15 * 60);
const MOST_REMOVE_AFTER: u32 = 10_000;
/// The queue in which receipts for webhooks come; each gets its own alone.
const RECEIPTS: &str = "RECEIPT";

/// An endpoint that is to be registered.
#[derive(Clone, Debug)]
pub struct NewEndpoint {
    /// Whose it is: a principal's subject.
    pub owner: Option<String>,
    pub url: String,
    /// Patterns with commas between: `ORDERS/*,*/DELETE`.
    pub filter: String,
    pub description: String,
    /// Each key's events one after another.
    pub ordered: bool,
    /// With what it begins.
    pub from: Begin,
    /// How long 202 waits for an acknowledgement; None: 202 is one.
    pub ack_within: Option<Duration>,
    /// Failed attempts in a row after which it is disabled at once; None: after five days of nothing else.
    pub remove_after: Option<u32>,
    pub signature: Signature,
    /// One that the receiver has already, for `v1`.
    pub secret: Option<SecretString>,
}

impl NewEndpoint {
    /// Of these events, from the oldest that is kept, as every durable group; signed by `v1`.
    pub fn new(owner: Option<String>, url: &str, filter: &str) -> Self {
        Self {
            owner,
            url: url.to_owned(),
            filter: filter.to_owned(),
            description: String::new(),
            ordered: false,
            from: Begin::Then,
            ack_within: Some(ACK_DEFAULT),
            remove_after: None,
            signature: Signature::V1,
            secret: None,
        }
    }
}

/// What to change of an endpoint; None: it stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub url: Option<String>,
    /// Of queues that are new to it, it gets what comes from now on.
    pub filter: Option<String>,
    pub description: Option<String>,
    pub ordered: Option<bool>,
    pub ack_within: Option<Option<Duration>>,
    pub remove_after: Option<Option<u32>>,
}

/// Where an endpoint begins, or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With what comes from now on.
    Now,
    /// With the oldest event that is kept; of one that was disabled: where it stopped.
    Then,
    /// With the first event recorded then or later.
    Time(OffsetDateTime),
}

/// An endpoint as it is stored.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `wh_` and 32 hexadecimal digits.
    pub id: String,
    pub owner: Option<String>,
    pub url: String,
    pub filter: String,
    pub description: String,
    pub ordered: bool,
    pub ack_within: Option<Duration>,
    pub remove_after: Option<u32>,
    pub signature: Signature,
    /// `whpk_…`, where it signs by `v1a`.
    pub public_key: Option<String>,
    /// Until when requests are also signed with the secret before this one; those before it end earlier.
    pub former_until: Option<OffsetDateTime>,
    /// Receipts come to it, since somebody asked for one.
    pub receipts: bool,
    pub state: State,
    /// Failed attempts since the last that succeeded.
    pub failures: u32,
    /// Since when there was nothing else.
    pub failing_since: Option<OffsetDateTime>,
    pub last_success: Option<OffsetDateTime>,
    pub created: OffsetDateTime,
    pub updated: OffsetDateTime,
    pub(crate) revision: i64,
    pub(crate) keys: Arc<Keys>,
}

/// What an endpoint's requests are signed with.
#[derive(Debug)]
pub(crate) struct Keys {
    pub current: Secret,
    /// Those that sign as well, each until then; the latest first.
    pub former: Vec<(Secret, OffsetDateTime)>,
    pub ack: AckKey,
}

/// Whether events are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Enabled,
    /// Nothing is sent; its place in the log stays.
    Disabled(Disabled),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disabled {
    pub at: OffsetDateTime,
    pub reason: Reason,
}

/// Why an endpoint is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Somebody asked for it.
    Asked,
    /// It answered 410.
    Gone,
    /// Nothing but failures for five days.
    Failing,
    /// As many failures in a row as its `remove_after` allows.
    RemoveAfter,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::RemoveAfter => "remove_after",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Asked, Self::Gone, Self::Failing, Self::RemoveAfter].into_iter().find(|reason| reason.as_str() == text)
    }
}

impl Endpoint {
    /// Where it is, for logs: the rest of its address may be a secret.
    pub fn host(&self) -> Option<String> {
        self.url.parse::<http::Uri>().ok()?.host().map(str::to_owned)
    }

    pub fn is_enabled(&self) -> bool {
        self.state == State::Enabled
    }

    /// The group's name: of the first queue; those of others begin with it.
    pub fn group(&self) -> String {
        group(&self.id)
    }

    /// What it takes, its receipts included.
    pub(crate) fn patterns(&self) -> Result<Vec<Pattern>, Error> {
        let mut patterns = patterns(&self.filter)?;
        if self.receipts {
            let receipts = format!("{RECEIPTS}/*[data.webhook={}]", self.id);
            patterns.push(receipts.parse().map_err(|error| Error::Stored(format!("{receipts}: {error}")))?);
        }
        Ok(patterns)
    }
}

pub(crate) fn group(id: &str) -> String {
    format!("webhook.{id}")
}

/// What a filter's text says.
pub(crate) fn patterns(filter: &str) -> Result<Vec<Pattern>, Error> {
    let refuse = |reason: String| Error::Invalid(format!("filter: {reason}"));
    if filter.contains('\0') {
        return Err(refuse("has a NUL".to_owned()));
    }
    if filter.len() > MOST_FILTER_BYTES {
        return Err(refuse(format!("has more than {MOST_FILTER_BYTES} bytes")));
    }
    let patterns = Pattern::list(filter).map_err(|error| refuse(error.to_string()))?;
    if patterns.len() > MOST_PATTERNS {
        return Err(refuse(format!("has more than {MOST_PATTERNS} patterns")));
    }
    if patterns.iter().filter_map(|pattern| pattern.queue.as_ref()).map(Name::as_str).any(|queue| queue == RECEIPTS) {
        return Err(refuse("receipts come to a webhook that an event's replyto names".to_owned()));
    }
    Ok(patterns)
}

/// Whether what is said of an endpoint is in range.
pub(crate) fn check(
    guard: Guard,
    url: &str,
    filter: &str,
    description: &str,
    ack_within: Option<Duration>,
    remove_after: Option<u32>,
) -> Result<(), Error> {
    guard.read(url).map_err(|reason| Error::Invalid(format!("url: {reason}")))?;
    patterns(filter)?;
    if description.len() > MOST_DESCRIPTION_BYTES {
        return Err(Error::Invalid(format!("description: has more than {MOST_DESCRIPTION_BYTES} bytes")));
    }
    if description.contains('\0') {
        return Err(Error::Invalid("description: has a NUL".to_owned()));
    }
    if ack_within.is_some_and(|within| !(ACK_WITHIN.0..=ACK_WITHIN.1).contains(&within)) {
        return Err(Error::Invalid("ack_within: must be 1s to 12h, or null".to_owned()));
    }
    if remove_after.is_some_and(|failures| !(1..=MOST_REMOVE_AFTER).contains(&failures)) {
        return Err(Error::Invalid(format!("remove_after: must be 1 to {MOST_REMOVE_AFTER}, or null")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused_by_its_name() {
        let guard = Guard { private_networks: false };
        let fine = ("https://example.com", "DB/*,*/DELETE", "", Some(ACK_DEFAULT), Some(1));
        let of = |(url, filter, description, ack, remove)| check(guard, url, filter, description, ack, remove);
        of(fine).unwrap();
        let long = "x".repeat(MOST_DESCRIPTION_BYTES + 1);
        for (wrong, field) in [
            (("http://example.com", fine.1, "", None, None), "url"),
            ((fine.0, "DB", "", None, None), "filter"),
            ((fine.0, "RECEIPT/*", "", None, None), "filter"),
            ((fine.0, "DB/*[data.a=\0]", "", None, None), "filter"),
            ((fine.0, fine.1, long.as_str(), None, None), "description"),
            ((fine.0, fine.1, "a\0b", None, None), "description"),
            ((fine.0, fine.1, "", Some(Duration::ZERO), None), "ack_within"),
            ((fine.0, fine.1, "", Some(Duration::from_secs(86_400)), None), "ack_within"),
            ((fine.0, fine.1, "", None, Some(0)), "remove_after"),
        ] {
            let error = of(wrong).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
