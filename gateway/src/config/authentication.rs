//! `authentication:` who may be known, and how.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Jwt, OneOrMany, Redis};
use crate::{action::duration, auth::session::Lifetime, limit};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Authentication {
    pub api_keys: Option<ApiKeys>,
    /// Issuers whose tokens are believed; default none.
    pub jwt: OneOrMany<Jwt>,
    /// How many verified tokens are at hand: 1 to 1,000,000, default 10,000.
    pub tokens: usize,
    pub session: Option<Session>,
    /// Takes the certificate that a client showed by TLS for who it is; default not.
    pub mtls: Option<Mtls>,
    /// Has credentials revoked by events of the bus; default not.
    pub revocation: Option<Revocation>,
}

impl Default for Authentication {
    fn default() -> Self {
        let jwt = OneOrMany::default();
        Self { api_keys: None, jwt, tokens: 10_000, session: None, mtls: None, revocation: None }
    }
}

/// `mtls: { subject_prefix: machines/, scopes: [feed] }`. A listener must ask for certificates: its `tls` says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mtls {
    /// Put before what the certificate calls its holder; default nothing.
    pub subject_prefix: String,
    /// The scopes of whoever shows one; default none.
    pub scopes: Vec<String>,
}

/// `revocation: { queue: AUTH }`: events `REVOKE` of a queue of the bus revoke credentials on every gateway at once. Can't
/// change while the gateway runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Revocation {
    /// Default `AUTH`.
    pub queue: String,
    /// The Redis that the bus is in; default that of `shared`. Not needed where the bus is in the same process.
    pub redis: Redis,
    /// How long a revocation is kept: as long as the queue keeps its events, and as the longest token lives. 1h to 8760h,
    /// default 168h.
    #[serde(deserialize_with = "duration::deserialize")]
    pub keep: Duration,
}

impl Default for Revocation {
    fn default() -> Self {
        Self { queue: "AUTH".to_owned(), redis: Redis::default(), keep: Duration::from_secs(168 * 3600) }
    }
}

/// `api_keys: { file: keys.yaml }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeys {
    /// Relative to the configuration file. Read again when it changes.
    pub file: PathBuf,
}

/// `session: { upstream: customer }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The service that knows the passwords.
    pub upstream: String,
    /// A method with the contract of `turnpike.auth.v1.Authenticator/Authenticate`, which is the default.
    #[serde(default = "login")]
    pub login: String,
    /// Where to log in (POST), ask who one is (GET) and log out (DELETE).
    #[serde(default = "path")]
    pub path: String,
    /// How often one may try to log in: passwords are there to be guessed.
    #[serde(default)]
    pub rate_limit: OneOrMany<limit::Config>,
    /// How long a session lives without a request; default 30 min.
    #[serde(default = "idle", deserialize_with = "duration::deserialize")]
    pub idle: Duration,
    /// How long a session lives at most: at most 8760h, default 12 h.
    #[serde(default = "absolute", deserialize_with = "duration::deserialize")]
    pub absolute: Duration,
}

impl Session {
    pub fn lifetime(&self) -> Lifetime {
        Lifetime { idle: self.idle, absolute: self.absolute }
    }
}

fn login() -> String {
    "turnpike.auth.v1.Authenticator/Authenticate".to_owned()
}

fn path() -> String {
    "/session".to_owned()
}

fn idle() -> Duration {
    Lifetime::default().idle
}

fn absolute() -> Duration {
    Lifetime::default().absolute
}
