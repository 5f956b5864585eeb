//! `routes:` what requests there are, and what is done with them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Cors, Match, OneOrMany, Requirement, Size, Switch};
use crate::{
    action::{
        aggregate, duration, edit, proxy, redirect, respond,
        split::{Sticky, Weighted},
        transcode::ResponseConfig,
    },
    address::Lists,
    auth::Kind,
    cache,
    descriptors::rule,
    limit,
    openapi::Describe,
    route::{self, Authenticate},
};

/// Either `grpc`, which makes a route of every annotated method of a service, or `match` with one action.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
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
    /// Of `grpc` and `transcode`: upstreams that share the requests, `[{ upstream: v1, weight: 95 }, …]`. `upstream` is the one
    /// whose descriptors count; default: the first of them.
    #[serde(default)]
    pub weights: Vec<Weighted>,
    /// By what a caller stays with one of `weights`: `principal`, `client_address`, `header:NAME` or `cookie:NAME`.
    #[serde(default)]
    pub sticky: Option<Sticky>,
    /// `package.Service/Method`
    #[serde(default)]
    pub transcode: Option<String>,
    #[serde(default)]
    pub aggregate: Option<aggregate::Config>,
    #[serde(default)]
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
    /// Whether answers to GET and HEAD are kept; default not.
    #[serde(default)]
    pub cache: Option<Switch<cache::Config>>,
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
    /// What is changed in the header that the action gets.
    #[serde(default)]
    pub request_headers: edit::Config,
    /// What is changed in the header of its answers.
    #[serde(default)]
    pub response_headers: edit::Config,
    /// Of `grpc`: rules for methods without an annotation, or in its place, as `http.rules` of a service configuration has
    /// them.
    #[serde(default)]
    pub http_rules: Vec<rule::Written>,
    /// Of `grpc`: a service configuration (`google.api.Service`) whose `http.rules` are taken.
    #[serde(default)]
    pub http_rules_file: Option<PathBuf>,
    /// What the OpenAPI document says of it, in place of what descriptors say. Of `grpc`: `tags` and `hidden`, for all methods.
    #[serde(default)]
    pub describe: Describe,
    /// Of `grpc`: what differs for a method, by its name.
    #[serde(default)]
    pub methods: BTreeMap<String, Override>,
}

impl Route {
    /// The upstream whose descriptors say what `grpc` or `transcode` is.
    pub fn served_by(&self) -> Option<&str> {
        self.upstream.as_deref().or_else(|| self.weights.first().map(|first| first.upstream.as_str()))
    }
}

/// What differs for one method of a `grpc` route.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
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
    pub cache: Option<Switch<cache::Config>>,
    pub forward_headers: Option<Vec<String>>,
    pub response: Option<ResponseConfig>,
    pub describe: Describe,
}

/// `idempotency: { required: true, keep: 24h }`: a repeat with the same `Idempotency-Key` gets the first one's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Route, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn methods_of_a_grpc_route_may_differ() {
        let text = "{grpc: a.B, upstream: c, methods: {Create: {scopes: {all: [x]}, authenticate: required, response: {status: 201, location: '/b/{id}'}}}}";
        let route = read(text).unwrap();
        assert_eq!(route.methods["Create"].authenticate, Some(Authenticate::Required));
        assert_eq!(route.methods["Create"].scopes, Some(Scopes::All(vec!["x".to_owned()])));
    }
}
