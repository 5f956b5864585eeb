//! `authentication.jwt:` whose tokens are believed.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::OneOrMany;
use crate::{action::duration, auth::jwt::Algorithm};

/// `jwt: [{ issuer: https://id.example, audience: api, jwks_url: https://id.example/jwks }]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// What `iss` must be, letter by letter.
    pub issuer: String,
    /// Of these `aud` must name at least one.
    pub audience: OneOrMany<String>,
    /// Where the keys are: https, or http on this machine.
    #[serde(default)]
    pub jwks_url: Option<String>,
    /// The keys, instead; relative to the configuration file. Read again when it changes.
    #[serde(default)]
    pub jwks_file: Option<PathBuf>,
    /// Certificates (PEM) of who vouches for the server of `jwks_url`, instead of those that the web trusts.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Lets `jwks_url` be http elsewhere, too: only where nobody else is on the way. Default false.
    #[serde(default)]
    pub plain_http: bool,
    /// Default: every one there is. None of them is symmetric, and none is `none`.
    #[serde(default = "Algorithm::all")]
    pub algorithms: Vec<Algorithm>,
    /// How far clocks may be apart: 0s to 5m, default 30s.
    #[serde(default = "leeway", deserialize_with = "duration::deserialize")]
    pub leeway: Duration,
    /// The longest that a token may be good from when it was issued (where it doesn't say: from now); default 168h.
    #[serde(default = "max_lifetime", deserialize_with = "duration::deserialize")]
    pub max_lifetime: Duration,
    /// The claim that says whose token it is; default `sub`.
    #[serde(default = "subject_claim")]
    pub subject_claim: String,
    /// Put before it: `users/`. Default nothing. It keeps subjects of one issuer apart from all others.
    #[serde(default)]
    pub subject_prefix: String,
    /// The claim with the scopes, text or list; default `scope`.
    #[serde(default = "scopes_claim")]
    pub scopes_claim: String,
    /// Claims that the principal has, too; default none.
    #[serde(default)]
    pub claims: Vec<String>,
    /// Claims without which a token is refused; default none.
    #[serde(default)]
    pub required_claims: Vec<String>,
    /// How often the keys are fetched: 1s to 24h, default 10m, a tenth more or less.
    #[serde(default = "refresh", deserialize_with = "duration::deserialize")]
    pub refresh: Duration,
    /// How long keys are good while the issuer is away; default 24h.
    #[serde(default = "stale", deserialize_with = "duration::deserialize")]
    pub stale: Duration,
    /// How long after it was asked for a key that it didn't have the issuer is asked for another; default 30s.
    #[serde(default = "cooldown", deserialize_with = "duration::deserialize")]
    pub unknown_key_cooldown: Duration,
}

impl Jwt {
    /// What is wrong with it by itself: member, and why.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut fault = |member, wrong: bool, message: &str| {
            if wrong {
                faults.push((member, message.to_owned()));
            }
        };
        fault("issuer", self.issuer.is_empty(), "must not be empty");
        let audiences = &self.audience.0;
        fault(
            "audience",
            audiences.is_empty() || audiences.iter().any(String::is_empty),
            "must name who tokens are for",
        );
        fault("algorithms", self.algorithms.is_empty(), "allows none");
        fault("leeway", self.leeway > Duration::from_secs(300), "must be at most 5m");
        fault("max_lifetime", self.max_lifetime.is_zero(), "must be above 0");
        fault("subject_claim", self.subject_claim.is_empty(), "must not be empty");
        let minute = Duration::from_secs(60);
        let refresh = self.refresh;
        fault("refresh", refresh < minute / 60 || refresh > 24 * 60 * minute, "must be within 1s to 24h");
        fault("stale", self.stale < refresh, "must not be shorter than `refresh`");
        match (&self.jwks_url, &self.jwks_file) {
            (None, None) => fault("jwks_url", true, "must say where the keys are, or `jwks_file`"),
            (Some(_), Some(_)) => fault("jwks_file", true, "does not go with `jwks_url`"),
            (Some(_), None) => {}
            (None, Some(_)) => fault("ca", self.ca.is_some(), "is of `jwks_url`"),
        }
        faults
    }
}

fn leeway() -> Duration {
    Duration::from_secs(30)
}

fn max_lifetime() -> Duration {
    Duration::from_secs(168 * 3600)
}

fn subject_claim() -> String {
    "sub".to_owned()
}

fn scopes_claim() -> String {
    "scope".to_owned()
}

fn refresh() -> Duration {
    Duration::from_secs(600)
}

fn stale() -> Duration {
    Duration::from_secs(24 * 3600)
}

fn cooldown() -> Duration {
    Duration::from_secs(30)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Jwt, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_algorithm_that_proves_nothing_can_not_be_allowed() {
        for name in ["HS256", "none", "RS1"] {
            let text = format!("{{issuer: i, audience: a, jwks_file: f, algorithms: [{name}]}}");
            assert!(read(&text).unwrap_err().contains(name));
        }
    }

    #[test]
    fn what_contradicts_itself_is_a_fault() {
        let faults = |more: &str| -> Vec<&str> {
            read(&format!("{{issuer: i, audience: a{more}}}"))
                .unwrap()
                .faults()
                .iter()
                .map(|(member, _)| *member)
                .collect()
        };
        assert!(faults(", jwks_file: f").is_empty());
        assert!(faults(", jwks_url: 'https://i/', ca: c").is_empty());
        assert_eq!(faults(""), ["jwks_url"]);
        assert_eq!(faults(", jwks_file: f, jwks_url: 'https://i/'"), ["jwks_file"]);
        assert_eq!(faults(", jwks_file: f, ca: c, leeway: 6m, algorithms: []"), ["algorithms", "leeway", "ca"]);
        assert_eq!(faults(", jwks_file: f, refresh: 2h, stale: 1h"), ["stale"]);
    }
}
