//! `upstreams:` the services behind the gateway.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use super::{
    Switch,
    balance::{Balance, Breaker, Caps, Ejection},
};
use crate::action::duration;

/// `product: { endpoints: [127.0.0.1:7001], protocol: grpc, descriptors: shop.binpb }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// At least one; empty ones, as from `${NAME:-}`, are none. `host:port` is one endpoint. `dns://name:port` is one for
    /// each address of the name, and `srv://_grpc._tcp.name` one for each address of each target, looked up again when
    /// their TTL is over (1 s to 5 min). `registry://service` is one for each instance that announces itself in the Redis
    /// of `shared`.
    #[serde(deserialize_with = "endpoints")]
    #[schemars(with = "Vec<Option<String>>")]
    pub endpoints: Vec<String>,
    #[serde(default)]
    pub protocol: Protocol,
    /// What the service offers. An encoded `FileDescriptorSet`: the name of a built-in one, or a file (relative to the
    /// configuration file); or `reflection`: the service itself is asked, now and again.
    #[serde(default)]
    pub descriptors: Option<String>,
    /// Of `descriptors: reflection`: how often the service is asked; at least 1 s, default 60 s.
    #[serde(default, deserialize_with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub descriptors_refresh: Option<Duration>,
    /// Of `descriptors: reflection`: a file that keeps what was last said for a start while the service is away. By default
    /// it is kept as long as the gateway runs.
    #[serde(default)]
    pub descriptors_cache: Option<PathBuf>,
    /// What it says of itself, where it is passed through: the name of a built-in OpenAPI 3.1 document, or a file (relative to
    /// the configuration file). Default: nothing is known of it.
    #[serde(default)]
    pub openapi: Option<String>,
    /// Active checks; on by default for gRPC, off for the others, which have no standard one.
    #[serde(default)]
    pub health: Option<Health>,
    /// Default 1 s.
    #[serde(default = "connect_timeout", deserialize_with = "duration::deserialize")]
    pub connect_timeout: Duration,
    /// How long what is under way may take at an endpoint that is gone from its source, streams too; 1 s to 1 h, default 5
    /// min. Then it is cut.
    #[serde(default = "drain", deserialize_with = "duration::deserialize")]
    pub drain: Duration,
    /// How connections to the endpoints are secured; `{}`: by the authorities of the system. By default they aren't.
    #[serde(default)]
    pub tls: Option<Tls>,
    #[serde(default)]
    pub balance: Balance,
    /// How long it takes until an endpoint that is back, or has joined others, gets its whole share, from a tenth of it; up
    /// to 1 h. By default it gets all of it at once.
    #[serde(default, deserialize_with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub slow_start: Option<Duration>,
    /// When an endpoint gets nothing for a while because its requests fail; `false`: never.
    #[serde(default)]
    pub ejection: Switch<Ejection>,
    /// When the service is asked nothing for a while because its requests fail; `false`: never.
    #[serde(default)]
    pub breaker: Switch<Breaker>,
    /// What it is given at most at once; one more is refused.
    #[serde(default)]
    pub caps: Caps,
    #[serde(default)]
    pub retry: Retry,
    /// A second try beside the first, where that takes long: for GET, HEAD, OPTIONS and for gRPC methods without side
    /// effects. By default there is none.
    #[serde(default)]
    pub hedge: Option<Hedge>,
}

/// `tls: { ca: internal-ca.pem, server_name: product.internal, certificate: gateway.pem, key: gateway.key }`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The authorities that are believed: a PEM file, or `system`, the default.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The name that certificates must hold, and that is asked for (SNI). Default: the endpoint's host, or the name it was
    /// found by.
    #[serde(default)]
    pub server_name: Option<String>,
    /// PEM: what is shown to a service that asks who calls, then those that signed it.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// PEM, not encrypted: the certificate's key.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// `retry: { attempts: 1, on: [connect, reset, unavailable, 503], per_try_timeout: 500ms }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries beside the first: 0 to 3, default 1.
    pub attempts: u32,
    /// After what. Default `[connect, reset, unavailable]`.
    pub on: Vec<RetryOn>,
    /// How long a try of an idempotent request may take until its answer begins, where another may follow. Default: as long
    /// as the route's timeout.
    #[serde(deserialize_with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub per_try_timeout: Option<Duration>,
}

/// After what a request is tried again: `connect`, it never reached the service (any method); `reset`, the connection broke
/// after it may have been read; `unavailable`, gRPC's UNAVAILABLE; or a status, 429, 502, 503 or 504. All but the first:
/// idempotent requests only.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum RetryOn {
    Event(RetryEvent),
    Status(u16),
}

#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum RetryEvent {
    Connect,
    Reset,
    Unavailable,
}

/// `hedge: { after: 50ms, max: 1 }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hedge {
    /// How long the first try is waited for; `p95`: as long as 95 of 100 answers take.
    pub after: HedgeAfter,
    /// Tries beside the first, each `after` the one before: 1 to 3, default 1.
    #[serde(default = "hedges")]
    pub max: u32,
}

/// A duration above 0, or `p95`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum HedgeAfter {
    Time(Duration),
    P95,
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

/// In the place of a descriptor set: the service is asked.
const REFLECTION: &str = "reflection";

impl Upstream {
    /// Whether the service itself says what it offers.
    pub fn is_reflected(&self) -> bool {
        self.descriptors.as_deref() == Some(REFLECTION)
    }

    pub fn is_grpc(&self) -> bool {
        self.protocol == Protocol::Grpc
    }

    /// How often a service is asked.
    pub fn refresh(&self) -> Duration {
        self.descriptors_refresh.unwrap_or(Duration::from_secs(60))
    }

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
        config.drain = self.drain;
        config.balance = self.balance.to_upstream();
        config.slow_start = self.slow_start.unwrap_or_default();
        config.ejection = self.ejection.on().map(Ejection::to_upstream);
        config.breaker = self.breaker.on().map(Breaker::to_upstream);
        config.caps = self.caps.to_upstream();
        config.retry = self.retry.to_upstream();
        config.hedge = self.hedge.as_ref().map(Hedge::to_upstream);
        config
    }
}

impl Tls {
    /// The files it names.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [self.authorities(), self.certificate.as_ref(), self.key.as_ref()].into_iter().flatten()
    }

    /// The file of the authorities; None: those of the system.
    pub fn authorities(&self) -> Option<&PathBuf> {
        self.ca.as_ref().filter(|ca| ca.as_path() != Path::new("system"))
    }
}

// Not by serde's own: that wouldn't say what there is.
impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct On;

        impl Visitor<'_> for On {
            type Value = RetryOn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("connect, reset, unavailable, 429, 502, 503 or 504")
            }
            fn visit_u64<E: de::Error>(self, status: u64) -> Result<RetryOn, E> {
                u16::try_from(status).map(RetryOn::Status).map_err(|_| E::custom("must be 429, 502, 503 or 504"))
            }
            fn visit_str<E: de::Error>(self, event: &str) -> Result<RetryOn, E> {
                match event {
                    "connect" => Ok(RetryOn::Event(RetryEvent::Connect)),
                    "reset" => Ok(RetryOn::Event(RetryEvent::Reset)),
                    "unavailable" => Ok(RetryOn::Event(RetryEvent::Unavailable)),
                    _ => {
                        Err(E::unknown_variant(event, &["connect", "reset", "unavailable", "429", "502", "503", "504"]))
                    }
                }
            }
        }

        deserializer.deserialize_any(On)
    }
}

impl Default for Retry {
    fn default() -> Self {
        let on = [RetryEvent::Connect, RetryEvent::Reset, RetryEvent::Unavailable];
        Self { attempts: 1, on: on.map(RetryOn::Event).into(), per_try_timeout: None }
    }
}

impl Retry {
    fn to_upstream(&self) -> upstream::Retry {
        let on = self.on.iter().map(|on| match on {
            RetryOn::Event(RetryEvent::Connect) => upstream::On::Connect,
            RetryOn::Event(RetryEvent::Reset) => upstream::On::Reset,
            RetryOn::Event(RetryEvent::Unavailable) => upstream::On::Unavailable,
            RetryOn::Status(status) => upstream::On::Status(*status),
        });
        upstream::Retry { attempts: self.attempts, on: on.collect(), per_try_timeout: self.per_try_timeout }
    }
}

impl Hedge {
    fn to_upstream(&self) -> upstream::Hedge {
        let after = match self.after {
            HedgeAfter::Time(after) => upstream::After::Time(after),
            HedgeAfter::P95 => upstream::After::P95,
        };
        upstream::Hedge { after, max: self.max }
    }
}

impl TryFrom<String> for HedgeAfter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "p95" {
            return Ok(Self::P95);
        }
        duration::parse(&text).map(Self::Time)
    }
}

fn endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let written = Vec::<Option<String>>::deserialize(deserializer)?;
    Ok(written.into_iter().flatten().filter(|endpoint| !endpoint.is_empty()).collect())
}

fn drain() -> Duration {
    Duration::from_secs(300)
}

fn connect_timeout() -> Duration {
    Duration::from_secs(1)
}

fn hedges() -> u32 {
    1
}

fn interval() -> Duration {
    Duration::from_secs(5)
}

fn timeout() -> Duration {
    Duration::from_secs(1)
}
