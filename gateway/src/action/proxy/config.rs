//! `proxy:` as it is written.

use std::{collections::BTreeMap, fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::mirror;
use crate::action::{
    duration,
    split::{Sticky, Weighted},
};

/// `proxy: broker`, or a mapping where more is to be said.
#[derive(Clone, Debug)]
pub struct Config {
    /// With their weights; one that is named alone has all.
    pub upstreams: Vec<Weighted>,
    pub sticky: Option<Sticky>,
    pub rewrite: Option<Rewrite>,
    pub mirror: Option<mirror::Config>,
    /// How long a body or a WebSocket may be silent; default 300 s.
    pub idle_timeout: Duration,
}

/// What the upstream sees in place of what the client sent; the rest is kept.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// Stands in for the literal segments before the first variable of the route's template: `/api/{rest=**}` with
    /// prefix `/v1` makes `/v1/…`.
    pub prefix: Option<String>,
    /// The whole path; `{name}` is a variable of the route. Not with `prefix`.
    pub path: Option<String>,
    /// The `Host`, with a port if it is to have one; `X-Forwarded-Host` stays the client's.
    pub host: Option<String>,
    pub query: Query,
}

/// What is changed in the query; what isn't named stays as it came.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// Parameters that get this value, whatever they had.
    pub set: BTreeMap<String, String>,
    /// Parameters that go.
    pub remove: Vec<String>,
}

const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// A proxy where more is to be said than a name.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Proxy")]
struct Mapping {
    /// Who gets the requests. Either this or `weights`.
    upstream: Option<String>,
    /// Several that share the requests: `[{ upstream: v1, weight: 95 }, { upstream: v2, weight: 5 }]`.
    weights: Option<Vec<Weighted>>,
    /// By what a caller stays with one of `weights`: `principal`, `client_address`, `header:NAME` or `cookie:NAME`.
    /// Default: chance decides with each request.
    sticky: Option<Sticky>,
    rewrite: Option<Rewrite>,
    /// Who gets a copy of requests.
    mirror: Option<mirror::Config>,
    /// How long a body or a WebSocket may be silent; default 300 s.
    #[serde(default, deserialize_with = "duration::option")]
    idle_timeout: Option<Duration>,
}

impl Config {
    fn to(upstream: String) -> Self {
        let upstreams = vec![Weighted { upstream, weight: 1 }];
        Self { upstreams, sticky: None, rewrite: None, mirror: None, idle_timeout: IDLE_TIMEOUT }
    }
}

impl Mapping {
    fn config(self) -> Result<Config, &'static str> {
        let (upstreams, sticky) = match (self.upstream, self.weights, self.sticky) {
            (Some(upstream), None, None) => (Config::to(upstream).upstreams, None),
            (None, Some(weights), sticky) => (weights, sticky),
            (Some(_), None, Some(_)) => return Err("`sticky` belongs to `weights`"),
            _ => return Err("a proxy has either `upstream` or `weights`"),
        };
        let idle_timeout = self.idle_timeout.unwrap_or(IDLE_TIMEOUT);
        Ok(Config { upstreams, sticky, rewrite: self.rewrite, mirror: self.mirror, idle_timeout })
    }
}

impl schemars::JsonSchema for Config {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProxyOrName".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let section = generator.subschema_for::<Mapping>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, section] })
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> de::Visitor<'de> for Either {
            type Value = Config;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an upstream, or a mapping with `upstream` or `weights`")
            }
            fn visit_str<E>(self, upstream: &str) -> Result<Config, E> {
                Ok(Config::to(upstream.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
                let mapping = Mapping::deserialize(de::value::MapAccessDeserializer::new(map))?;
                mapping.config().map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_proxy_is_a_name_or_a_mapping() {
        assert_eq!(read("broker").unwrap().upstreams[0].upstream, "broker");
        let config = read("{upstream: broker, rewrite: {prefix: /v1}, idle_timeout: 5s}").unwrap();
        assert_eq!(config.idle_timeout, Duration::from_secs(5));
        assert_eq!(config.rewrite.unwrap().prefix.as_deref(), Some("/v1"));
        let config =
            read("{weights: [{upstream: a, weight: 95}, {upstream: b, weight: 5}], sticky: 'cookie:id'}").unwrap();
        assert_eq!(config.upstreams.len(), 2);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for wrong in [
            "{upstream: broker, prefix: /v1}",
            "{rewrite: {prefix: /v1}}",
            "{upstream: a, weights: [{upstream: b, weight: 1}]}",
            "{upstream: a, sticky: principal}",
            "{upstream: a, rewrite: {prefx: /v1}}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
