//! `authentication:` who may be known, and how.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::OneOrMany;
use crate::{action::duration, auth::session::Lifetime, limit};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authentication {
    pub api_keys: Option<ApiKeys>,
    pub session: Option<Session>,
}

/// `api_keys: { file: keys.yaml }`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeys {
    /// Relative to the configuration file. Read again when it changes.
    pub file: PathBuf,
}

/// `session: { upstream: customer }`
#[derive(Clone, Debug, Deserialize)]
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
    /// How long a session lives at most; default 12 h.
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
