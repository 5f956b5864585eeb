//! What is said of a webhook in a request.

use std::time::Duration;

use ::webhooks::{Begin, Change, NewEndpoint, Signature};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{access::Caller, duration, filter::Filter, problem::Problem, query::refuse};

/// A webhook that is to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Registered {
    url: String,
    filter: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    ordered: bool,
    /// `earliest` unless said otherwise, as every durable group; `now`, or a time.
    from: Option<String>,
    /// Null: 202 is done.
    #[serde(default, deserialize_with = "given")]
    ack_within: Option<Option<String>>,
    remove_after: Option<u32>,
    #[serde(default)]
    signature: Signature,
    secret: Option<SecretString>,
}

/// What is to be otherwise; what is left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Changed {
    url: Option<String>,
    filter: Option<String>,
    description: Option<String>,
    ordered: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    ack_within: Option<Option<String>>,
    /// Null: after five days.
    #[serde(default, deserialize_with = "given")]
    remove_after: Option<Option<u32>>,
}

/// Where it goes on: `then` unless said otherwise, `now`, or a time.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resume {
    from: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
}

/// What a receiver says later; nothing: it is done.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    pub ok: bool,
    pub reason: Option<String>,
}

/// A null that was written is something else than nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Registered {
    /// As the caller's.
    pub fn endpoint(self, caller: &Caller) -> Result<NewEndpoint, Problem> {
        let from = match self.from.as_deref() {
            None | Some("earliest") => Begin::Then,
            Some("now") => Begin::Now,
            Some(text) => Begin::Time(time(text, "earliest, now")?),
        };
        let filter = taken(caller, &self.filter)?;
        let plain = NewEndpoint::new(caller.subject.clone(), &self.url, &filter);
        Ok(NewEndpoint {
            description: self.description,
            ordered: self.ordered,
            from,
            ack_within: self.ack_within.map_or(Ok(plain.ack_within), within)?,
            remove_after: self.remove_after,
            signature: self.signature,
            secret: self.secret,
            ..plain
        })
    }
}

impl Changed {
    /// Whether what it gets goes elsewhere, as it is otherwise.
    pub(super) fn moves(&self) -> bool {
        self.url.is_some() && self.filter.is_none()
    }

    pub fn change(self, caller: &Caller) -> Result<Change, Problem> {
        Ok(Change {
            url: self.url,
            filter: self.filter.map(|filter| taken(caller, &filter)).transpose()?,
            description: self.description,
            ordered: self.ordered,
            ack_within: self.ack_within.map(within).transpose()?,
            remove_after: self.remove_after,
        })
    }
}

impl Resume {
    pub fn begin(self) -> Result<Begin, Problem> {
        match self.from.as_deref() {
            None | Some("then") => Ok(Begin::Then),
            Some("now") => Ok(Begin::Now),
            Some(text) => time(text, "then, now").map(Begin::Time),
        }
    }
}

/// What the caller may see of what it asked for, which is what its webhook takes.
fn taken(caller: &Caller, text: &str) -> Result<String, Problem> {
    let filter: Filter = text.parse().map_err(|error| refuse("filter", error))?;
    let patterns = caller.may_take(&filter)?;
    Ok(patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}

fn within(text: Option<String>) -> Result<Option<Duration>, Problem> {
    let refused = || refuse("ack_within", "must be a duration such as 15m, or null");
    text.map(|text| duration::parse(&text).ok_or_else(refused)).transpose()
}

fn time(text: &str, words: &str) -> Result<OffsetDateTime, Problem> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| refuse("from", format!("must be {words} or a time as in RFC 3339")))
}
