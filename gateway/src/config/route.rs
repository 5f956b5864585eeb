//! `routes:` what requests there are, and what is done with them.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Cors, Match, OneOrMany, Requirement, Size, Switch};
use crate::{
    address::Lists,
    action::{aggregate, duration, proxy, redirect, respond, transcode::ResponseConfig},
    auth::Kind,
    limit,
    route::{self, Authenticate},
};

/// Either `grpc`, which makes a route of every annotated method of a service, or `match` with one action.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// How metrics and logs call it; default `GET /products/{id}`.
    #[serde(default)]
    pub name: Option<String>,
    /// `package.Service`, served by `upstream`.
    #[serde(default)]
    pub grpc: Option<String>,
    #[serde(default, rename = "match")]
    pub matches: Option<Match>,
    /// Of `grpc` and `transcode`.
    #[serde(default)]
    pub upstream: Option<String>,
    /// `package.Service/Method`
    #[serde(default)]
    pub transcode: Option<String>,
    #[serde(default)]
    pub aggregate: Option<aggregate::Config>,
    #[serde(default, deserialize_with = "name_or_section")]
    pub proxy: Option<proxy::Config>,
    #[serde(default)]
    pub respond: Option<respond::Config>,
    #[serde(default)]
    pub redirect: Option<redirect::Config>,

    #[serde(default)]
    pub authenticate: Option<Authenticate>,
    #[serde(default)]
    pub scopes: Option<Scopes>,
    /// What the caller must have beside scopes; default nothing.
    #[serde(default)]
    pub authorise: Option<Requirement>,
    /// Which credentials are taken: `api_key`, `jwt`, `session`, `certificate`; default all.
    #[serde(default)]
    pub credentials: Option<OneOrMany<Kind>>,
    /// Whether the upstream gets the credential, too, beside `turnpike-principal`; default false.
    #[serde(default)]
    pub forward_credentials: Option<bool>,
    #[serde(default, deserialize_with = "duration::option")]
    pub timeout: Option<Duration>,
    #[serde(default)]
    pub rate_limit: OneOrMany<limit::Config>,
    /// How many requests of a key may be under way at once; default no limit.
    #[serde(default)]
    pub concurrency: OneOrMany<limit::ConcurrencyConfig>,
    /// From where the route may be called, beside what holds for all; by default from everywhere.
    #[serde(default)]
    pub addresses: Option<Lists>,
    #[serde(default)]
    pub body_limit: Option<Size>,
    #[serde(default)]
    pub idempotency: Option<Idempotency>,
    /// Which other origins' pages may call, instead of what holds everywhere; `false`: none.
    #[serde(default)]
    pub cors: Option<Switch<Cors>>,
    /// Response headers beside those that hold everywhere; an empty value takes one away.
    #[serde(default)]
    pub security_headers: BTreeMap<String, String>,
    /// Whether answers may be compressed; default true.
    #[serde(default)]
    pub compression: Option<bool>,
    /// Of `proxy`: whether the upstream gets bodies out of their content coding; default false. Where the gateway itself
    /// reads the body it always does.
    #[serde(default)]
    pub decompress: Option<bool>,
    /// Of `grpc` and `transcode`: request headers that become metadata.
    #[serde(default)]
    pub forward_headers: Option<Vec<String>>,
    /// Of `transcode`.
    #[serde(default)]
    pub response: Option<ResponseConfig>,
    /// Of `grpc`: what differs for a method, by its name.
    #[serde(default)]
    pub methods: BTreeMap<String, Override>,
}

/// What differs for one method of a `grpc` route.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    pub authenticate: Option<Authenticate>,
    pub scopes: Option<Scopes>,
    pub authorise: Option<Requirement>,
    pub credentials: Option<OneOrMany<Kind>>,
    #[serde(deserialize_with = "duration::option")]
    pub timeout: Option<Duration>,
    /// Beside those of the route.
    pub rate_limit: OneOrMany<limit::Config>,
    /// Beside those of the route.
    pub concurrency: OneOrMany<limit::ConcurrencyConfig>,
    pub addresses: Option<Lists>,
    pub body_limit: Option<Size>,
    pub idempotency: Option<Idempotency>,
    pub forward_headers: Option<Vec<String>>,
    pub response: Option<ResponseConfig>,
}

/// `idempotency: { required: true, keep: 24h }`: a repeat with the same `Idempotency-Key` gets the first one's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Idempotency {
    /// 400 without a key; default false.
    pub required: bool,
    /// How long an answer is kept; default 24 h.
    #[serde(deserialize_with = "duration::deserialize")]
    pub keep: Duration,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { required: false, keep: Duration::from_secs(24 * 3600) }
    }
}

/// `scopes: { all: [catalog:write] }` or `{ any: [a, b] }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Scopes {
    All(Vec<String>),
    Any(Vec<String>),
}

impl From<&Scopes> for route::Scopes {
    fn from(scopes: &Scopes) -> Self {
        match scopes {
            Scopes::All(scopes) => Self::All(scopes.clone()),
            Scopes::Any(scopes) => Self::Any(scopes.clone()),
        }
    }
}

/// `proxy: broker` says the same as `proxy: { upstream: broker }`.
fn name_or_section<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<proxy::Config>, D::Error> {
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = proxy::Config;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of an upstream, or a section with it")
        }
        fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
            let map = serde::de::value::MapDeserializer::new(std::iter::once(("upstream", name)));
            proxy::Config::deserialize(map)
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            proxy::Config::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(Either).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Route, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_proxy_is_a_name_or_a_section() {
        assert_eq!(read("{match: {path: /ws}, proxy: broker}").unwrap().proxy.unwrap().upstream, "broker");
        let section = read("{match: {path: /ws}, proxy: {upstream: broker, rewrite: {prefix: /v1}}}").unwrap();
        assert!(section.proxy.unwrap().rewrite.is_some());
        assert!(read("{match: {path: /ws}, proxy: {upstraem: broker}}").unwrap_err().contains("upstraem"));
    }

    #[test]
    fn methods_of_a_grpc_route_may_differ() {
        let text = "{grpc: a.B, upstream: c, methods: {Create: {scopes: {all: [x]}, authenticate: required, response: {status: 201, location: '/b/{id}'}}}}";
        let route = read(text).unwrap();
        assert_eq!(route.methods["Create"].authenticate, Some(Authenticate::Required));
        assert_eq!(route.methods["Create"].scopes, Some(Scopes::All(vec!["x".to_owned()])));
    }
}
