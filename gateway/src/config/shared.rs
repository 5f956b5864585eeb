//! `shared:` what gateways have in common.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::action::duration;

/// `shared: { redis: "redis://10.0.0.9:6379" }`
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shared {
    /// `redis://`, `rediss://` for TLS, `redis+sentinel://` or `redis+cluster://`, see docs/redis.md. None, or an empty one:
    /// this gateway keeps everything to itself.
    redis: Option<String>,
    /// How long a request may wait for Redis; default 500 ms.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// How long a rate limit may wait for it; default 20 ms. Then this gateway enforces its share of the limit.
    #[serde(deserialize_with = "duration::deserialize")]
    pub limit_timeout: Duration,
}

impl Shared {
    /// Where Redis is, if there is one.
    pub fn redis(&self) -> Option<&str> {
        self.redis.as_deref().filter(|url| !url.is_empty())
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self { redis: None, timeout: Duration::from_millis(500), limit_timeout: Duration::from_millis(20) }
    }
}

// A URL may hold a password.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("redis", &self.redis().is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Properties};

    fn read(url: Option<&str>) -> Option<String> {
        let text = "listeners: [{address: '127.0.0.1:0'}]\nshared:\n  redis: ${REDIS:-}\n";
        let properties = url.map(|url| ("REDIS".to_owned(), url.to_owned())).into_iter().collect::<Properties>();
        Config::parse(text, &properties).unwrap().shared.redis().map(str::to_owned)
    }

    #[test]
    fn without_a_url_nothing_is_shared() {
        assert_eq!(read(None), None);
        assert_eq!(read(Some("")), None);
        assert_eq!(read(Some("redis://10.0.0.9:6379/1")).as_deref(), Some("redis://10.0.0.9:6379/1"));
    }
}
