//! `upstreams:` the services behind the gateway.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::action::duration;

/// `product: { endpoints: [127.0.0.1:7001], protocol: grpc, descriptors: shop.binpb }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `host:port` or `dns://name:port`, at least one; empty ones, as from `${NAME:-}`, are none.
    #[serde(deserialize_with = "endpoints")]
    #[schemars(with = "Vec<Option<String>>")]
    pub endpoints: Vec<String>,
    #[serde(default)]
    pub protocol: Protocol,
    /// An encoded `FileDescriptorSet`: the name of a built-in one, or a file (relative to the configuration file).
    #[serde(default)]
    pub descriptors: Option<String>,
    /// Active checks; on by default for gRPC, off for the others, which have no standard one.
    #[serde(default)]
    pub health: Option<Health>,
    /// Default 1 s.
    #[serde(default = "connect_timeout", deserialize_with = "duration::deserialize")]
    pub connect_timeout: Duration,
    /// Tries beside the first, where a retry is safe: 0 to 3, default 1.
    #[serde(default = "retries")]
    pub retries: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Http1,
    Http2,
    Grpc,
}

/// `health: { interval: 5s, timeout: 1s, path: /readyz }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    #[serde(default = "interval", deserialize_with = "duration::deserialize")]
    pub interval: Duration,
    #[serde(default = "timeout", deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// HTTP: what is asked for. gRPC asks `grpc.health.v1`.
    #[serde(default)]
    pub path: Option<String>,
}

impl Upstream {
    /// The same for the crate that calls it.
    pub fn to_upstream(&self, name: &str) -> upstream::Config {
        let protocol = match self.protocol {
            Protocol::Http1 => upstream::Protocol::Http1,
            Protocol::Http2 => upstream::Protocol::Http2,
            Protocol::Grpc => upstream::Protocol::Grpc,
        };
        let health = match &self.health {
            Some(health) => {
                Some(upstream::Health { interval: health.interval, timeout: health.timeout, path: health.path.clone() })
            }
            None if self.protocol == Protocol::Grpc => {
                Some(upstream::Health { interval: interval(), timeout: timeout(), path: None })
            }
            None => None,
        };
        let mut config = upstream::Config::new(name, self.endpoints.clone(), protocol);
        config.health = health;
        config.connect_timeout = self.connect_timeout;
        config.retries = self.retries;
        config
    }
}

fn endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let written = Vec::<Option<String>>::deserialize(deserializer)?;
    Ok(written.into_iter().flatten().filter(|endpoint| !endpoint.is_empty()).collect())
}

fn connect_timeout() -> Duration {
    Duration::from_secs(1)
}

fn retries() -> u32 {
    1
}

fn interval() -> Duration {
    Duration::from_secs(5)
}

fn timeout() -> Duration {
    Duration::from_secs(1)
}
