//! What stands between a request and its action, in the order of `pipeline`.

use super::{Policy, Probe};
use crate::{
    auth::Kind,
    config::Size,
    layers::cors,
    limit::Limiter,
    route::{Authenticate, Route, Scopes},
    snapshot::Snapshot,
};

pub fn of(snapshot: &Snapshot, route: &Route, probe: &Probe) -> Vec<Policy> {
    let (edge, policy) = (&snapshot.edge, &route.policy);
    let mut list = Vec::new();
    let mut add = |policy: &str, says: String| list.push(Policy { policy: policy.to_owned(), says });
    let cors_says = match &policy.cors {
        cors::OfRoute::Off => "no other origin's pages".to_owned(),
        cors::OfRoute::Own(_) => "the route's own".to_owned(),
        cors::OfRoute::Inherited if edge.cors.is_some() => "what holds everywhere".to_owned(),
        cors::OfRoute::Inherited => "no other origin's pages".to_owned(),
    };
    add("cors", cors_says);
    let may_call = |lists: &crate::address::Lists| match lists.let_in(probe.client) {
        true => format!("{} may call", probe.client),
        false => format!("{} may not call", probe.client),
    };
    if let Some(lists) = &edge.addresses {
        add("addresses", may_call(lists));
    }
    for limiter in edge.client_limits.iter() {
        add("rate_limit", limit(limiter, probe));
    }
    add("in_flight", format!("at most {} requests at once", edge.limits.in_flight));
    if let Some(lists) = &policy.addresses {
        add("addresses", may_call(lists));
    }
    if edge.compression.is_some() {
        add("compression", if policy.compression { "on" } else { "off" }.to_owned());
    }
    add("body_limit", Size(policy.body).to_string());
    add("timeout", format!("{:?}", policy.timeout));
    add("authenticate", authenticate(policy));
    match &policy.scopes {
        Scopes::None => {}
        Scopes::All(scopes) => add("scopes", format!("all of {}", scopes.join(", "))),
        Scopes::Any(scopes) => add("scopes", format!("one of {}", scopes.join(", "))),
    }
    if let Some(rule) = &policy.rule {
        add("authorise", rule.to_string());
    }
    for concurrency in policy.concurrency.iter() {
        let config = &concurrency.config;
        add("concurrency", format!("{} at once a {}", config.requests, key(&config.key.to_string(), probe)));
    }
    for limiter in policy.rate_limits.iter() {
        add("rate_limit", limit(limiter, probe));
    }
    if policy.decompress {
        add("decompress", "bodies lose their content coding".to_owned());
    }
    if let Some(idempotency) = &policy.idempotency {
        let required = if idempotency.required { "required" } else { "optional" };
        add("idempotency", format!("Idempotency-Key {required}, answers kept {:?}", idempotency.keep));
    }
    if let Some(cache) = &policy.cache {
        add("cache", cache.to_string());
    }
    for (name, edit) in [("request_headers", &route.request_headers), ("response_headers", &route.response_headers)] {
        if !edit.is_empty() {
            add(name, edit.describe().join(", "));
        }
    }
    list
}

fn authenticate(policy: &crate::route::Policy) -> String {
    let kinds = [
        (Kind::ApiKey, "API key"),
        (Kind::Jwt, "token"),
        (Kind::Session, "session"),
        (Kind::Certificate, "certificate"),
    ];
    let taken: Vec<_> =
        kinds.iter().filter(|(kind, _)| policy.accepts.contains(*kind)).map(|(_, name)| *name).collect();
    match policy.authenticate {
        Authenticate::None => "credentials are not looked at".to_owned(),
        Authenticate::Optional => format!("optional, by {}", taken.join(", ")),
        Authenticate::Required => format!("required, by {}", taken.join(", ")),
    }
}

fn limit(limiter: &Limiter, probe: &Probe) -> String {
    let shadow = if limiter.shadow { ", only counted" } else { "" };
    format!("{} a {}{shadow}", limiter.policy, key(&limiter.key.to_string(), probe))
}

/// What is counted, with what this request has for it.
fn key(key: &str, probe: &Probe) -> String {
    let part = |part: &str| match part.strip_prefix("header:") {
        Some(name) => match probe.headers.get(name) {
            Some(value) => format!("{part} ({})", String::from_utf8_lossy(value.as_bytes())),
            None => format!("{part} (not there: the limit leaves it alone)"),
        },
        None if part.starts_with("client_address") => format!("{part} ({})", probe.client),
        None => part.to_owned(),
    };
    key.split('+').map(part).collect::<Vec<_>>().join("+")
}
