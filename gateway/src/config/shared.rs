//! `shared:` what gateways have in common.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Redis;
use crate::action::duration;

/// `shared: { redis: "redis://10.0.0.9:6379" }`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shared {
    /// By default none: this gateway keeps everything to itself.
    pub redis: Redis,
    /// How long a request may wait for Redis; default 500 ms.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// How long a rate limit may wait for it; default 20 ms. Then this gateway enforces its share of the limit.
    #[serde(deserialize_with = "duration::deserialize")]
    pub limit_timeout: Duration,
}

impl Default for Shared {
    fn default() -> Self {
        Self { redis: Redis::default(), timeout: Duration::from_millis(500), limit_timeout: Duration::from_millis(20) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::{Config, Properties, config::Shared};

    fn read(redis: &str, url: Option<&str>) -> Shared {
        let text = format!("listeners: [{{address: '127.0.0.1:0'}}]\nshared:\n  redis: {redis}\n");
        let properties = url.map(|url| ("REDIS".to_owned(), url.to_owned())).into_iter().collect::<Properties>();
        Config::parse(&text, &properties).unwrap().shared
    }

    #[test]
    fn without_a_url_nothing_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let address = |redis, url| {
            let address = read(redis, url).redis.address(folder.path()).unwrap();
            address.map(|address| address.to_string())
        };
        for written in ["${REDIS:-}", "\n    url: ${REDIS:-}\n    user: shop", "''", "null"] {
            assert_eq!(address(written, None), None, "{written}");
        }
        assert_eq!(address("${REDIS:-}", Some("")), None);
        assert_eq!(address("${REDIS:-}", Some("redis://10.0.0.9:6379/1")).as_deref(), Some("redis://10.0.0.9:6379/1"));
    }

    #[test]
    fn it_is_named_by_parts_whose_files_lie_beside_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("password"), "secret\n").unwrap();
        let shared = read("{url: 'redis+cluster://a:1,b:2', user: shop, password_file: password}", None);
        let address = shared.redis.address(folder.path()).unwrap().unwrap();
        assert_eq!(address.to_string(), "redis+cluster://shop@a:1,b:2");
        let elsewhere = shared.redis.address(&folder.path().join("elsewhere")).unwrap_err();
        assert!(elsewhere.starts_with("password_file: "), "{elsewhere}");
        // Of digits, it is a password all the same.
        let digits = read("{url: 'redis://a:1', password: 0123}", None);
        assert!(!format!("{digits:?}").contains("0123"));
        assert!(
            digits.redis.address(folder.path()).is_ok() && digits != read("{url: 'redis://a:1', password: 123}", None)
        );
    }
}
