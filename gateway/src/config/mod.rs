//! The configuration as it is written, section by section. Unknown keys are refused, durations and sizes carry their unit,
//! and every default stands here. What only makes sense together is checked by `compile`.

mod authentication;
mod authorise;
mod balance;
mod compression;
mod dns;
mod edge;
pub mod http2;
mod jwt;
pub mod listener;
mod matching;
mod one_or_many;
mod patience;
mod place;
mod redis;
mod route;
mod schema;
mod shared;
mod size;
mod suggest;
mod switch;
mod upstream;

pub use authentication::{Authentication, Mtls, Revocation, Session};
pub use authorise::Requirement;
pub use compression::Compression;
pub use dns::Dns;
pub use edge::{Cors, Limits};
pub use jwt::Jwt;
pub use listener::Listener;
pub use matching::{FieldMatch, Match};
pub use one_or_many::OneOrMany;
pub use patience::Patience;
pub use place::Places;
pub use redis::Redis;
pub use route::{Idempotency, Override, Route, Scopes};
pub use schema::schema;
pub use shared::Shared;
pub use size::Size;
pub use suggest::did_you_mean;
pub use switch::Switch;
pub use upstream::{Tls as UpstreamTls, Upstream};

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    access_log,
    action::duration,
    address::{Lists, Proxies},
    cache, limit, openapi, overload,
    route::Authenticate,
};

/// Values for `${NAME}` and `${NAME:-default}` in plain scalars; usually the environment.
pub type Properties = HashMap<String, String>;

/// A configuration file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub listeners: Vec<Listener>,
    #[serde(default)]
    pub authentication: Authentication,
    #[serde(default)]
    pub upstreams: BTreeMap<String, Upstream>,
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Whether routes ask who is calling, unless they say so themselves; default `optional`.
    #[serde(default)]
    pub authenticate: Authenticate,
    /// How long a request may take until its answer begins, unless its route says so; default 15 s.
    #[serde(default = "timeout", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// Limits that hold for every route. Those keyed by `client_address` come before all else.
    #[serde(default)]
    pub rate_limit: OneOrMany<limit::Config>,
    #[serde(default)]
    pub limits: Limits,
    /// Networks whose proxies are believed about who is behind them; none by default.
    #[serde(default)]
    pub trusted_proxies: Proxies,
    /// From where anything may be called at all; by default from everywhere.
    #[serde(default)]
    pub addresses: Lists,
    /// How many requests of a key may be under way at once, on every route; by default no limit.
    #[serde(default)]
    pub concurrency: OneOrMany<limit::ConcurrencyConfig>,
    /// When the gateway protects itself from having too much to do.
    #[serde(default)]
    pub overload: overload::Config,
    /// What this gateway shares with others; nothing by default.
    #[serde(default)]
    pub shared: Shared,
    /// Who is asked about the names of endpoints; by default the system's name servers.
    #[serde(default)]
    pub dns: Dns,
    /// Which other origins' pages may call; none by default.
    #[serde(default)]
    pub cors: Option<Cors>,
    /// Response headers beside the default ones; an empty value takes a default one away.
    #[serde(default)]
    pub security_headers: BTreeMap<String, String>,
    /// How many answers are kept, and which events purge them. Which routes' answers are, those say themselves.
    #[serde(default)]
    pub cache: cache::Section,
    /// Whether and how answers are compressed; `false` turns it off.
    #[serde(default)]
    pub compression: Switch<Compression>,
    /// A JSON line for each request, on stdout unless it says otherwise.
    #[serde(default)]
    pub access_log: Switch<access_log::Section>,
    /// Serves an OpenAPI document of all routes, and a page to read and try it; by default neither.
    #[serde(default)]
    pub openapi: Option<openapi::Section>,
    /// Whether it is counted who asks for what and how it goes, for `turnpike analytics`; default true.
    #[serde(default = "yes")]
    pub analytics: bool,
}

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `routes[3].aggregate[0].call`; empty if the file as a whole doesn't parse.
    pub path: String,
    pub message: String,
    /// Where it stands in the text, from 1, as far as that is known.
    pub line: Option<u64>,
}

impl Config {
    /// Reads a configuration. What is right in itself may still not fit together: see [`crate::check`].
    ///
    /// # Errors
    /// The place where it doesn't parse.
    pub fn parse(text: &str, properties: &Properties) -> Result<Self, Vec<ConfigError>> {
        let options = serde_saphyr::options! {}.with_properties(properties.clone());
        serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| vec![ConfigError::unreadable(error.without_snippet(), text, properties)])
    }
}

/// The key that begins at a line and a column of the text, both counted from 1.
fn key_at(text: &str, line: u64, column: u64) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let (start, _) = line.char_indices().nth(usize::try_from(column).ok()?.checked_sub(1)?)?;
    let key = line[start..].split([':', ' ']).next()?;
    (!key.is_empty()).then_some(key)
}

impl ConfigError {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), line: None }
    }

    fn unreadable(error: &serde_saphyr::Error, text: &str, properties: &Properties) -> Self {
        // What the parser calls a key that stands after a value that was filled in, which may be a secret; what is written
        // in the file is none.
        const HIDDEN: &str = "an interpolated field";
        let place = error.location();
        let written = place.and_then(|place| key_at(text, place.line(), place.column()));
        let (mut said, mut near) = (error.to_string(), String::new());
        if let serde_saphyr::Error::SerdeUnknownField { field, expected, .. } = error {
            let field = written.filter(|_| field == HIDDEN).unwrap_or(field);
            said = said.replace(HIDDEN, field);
            near = did_you_mean(field, expected.iter().copied());
        }
        if let serde_saphyr::Error::SerdeUnknownVariant { variant, expected, .. } = error {
            near = did_you_mean(variant, expected.iter().copied());
        }
        let path = place.and_then(|place| Places::of(text, properties).path(place.line(), place.column()));
        let message = format!("{said}{near}");
        Self { path: path.unwrap_or_default(), message, line: place.map(|place| place.line()) }
    }

    /// The same, with its line in the text.
    #[must_use]
    pub fn located(self, places: &Places) -> Self {
        let line = self.line.or_else(|| places.line(&self.path));
        Self { line, ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

fn timeout() -> Duration {
    Duration::from_secs(15)
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_where_it_stands() {
        let errors = Config::parse("listeners: []\nroutes:\n  - macth: {path: /}\n", &Properties::new()).unwrap_err();
        assert!(errors[0].message.contains("macth"), "{}", errors[0]);
    }

    #[test]
    fn an_unknown_key_is_named_also_after_a_value_that_was_filled_in() {
        let text = "listeners: []\nupstreams:\n  a: {endpoints: [\"x:1\", \"y:1\"]}\n  b:\n    endpoints:\n      - ${PROXY:-z:1}\nruotes: []\n";
        let errors = Config::parse(text, &Properties::new()).unwrap_err();
        assert!(errors[0].message.contains("`ruotes`") && errors[0].message.contains("routes"), "{}", errors[0]);
    }

    #[test]
    fn an_empty_endpoint_is_none() {
        let text = "listeners: []\nupstreams:\n  a:\n    endpoints:\n      - x:1\n      - ${SECOND:-}\n";
        let endpoints =
            |properties: Properties| Config::parse(text, &properties).unwrap().upstreams["a"].endpoints.len();
        assert_eq!(endpoints(Properties::new()), 1);
        assert_eq!(endpoints(Properties::from([("SECOND".to_owned(), "x:2".to_owned())])), 2);
    }

    #[test]
    fn values_come_from_properties_or_their_default() {
        let text =
            "listeners: [{address: '127.0.0.1:0'}]\nupstreams:\n  a: {endpoints: [\"x:1\"]}\ntimeout: ${WAIT:-3s}\n";
        assert_eq!(Config::parse(text, &Properties::new()).unwrap().timeout, Duration::from_secs(3));
        let given = Properties::from([("WAIT".to_owned(), "300ms".to_owned())]);
        assert_eq!(Config::parse(text, &given).unwrap().timeout, Duration::from_millis(300));
    }
}
