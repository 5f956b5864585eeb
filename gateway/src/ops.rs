//! What the gateway adds to the ops listener: routes, upstreams, limits, what it shares with other gateways, the state of
//! the configuration, and the public keys of its tokens.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use serde_json::{Value, json};

use crate::{limit::Quota, reload::Reloader, route::Scopes};

pub fn router(reloader: &Arc<Reloader>) -> Router {
    Router::new()
        .route("/routes", get(routes))
        .route("/upstreams", get(upstreams))
        .route("/limits", get(limits))
        .route("/shared", get(shared))
        .route("/config", get(config))
        .route("/.well-known/jwks.json", get(jwks))
        .with_state(Arc::clone(reloader))
}

async fn routes(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let snapshot = reloader.shared.snapshot();
    let routes = snapshot.routes.iter().map(|listed| {
        let (route, conditions) = (&listed.route, &listed.conditions);
        let scopes = match &route.policy.scopes {
            Scopes::None => Value::Null,
            Scopes::All(scopes) => json!({ "all": scopes }),
            Scopes::Any(scopes) => json!({ "any": scopes }),
        };
        json!({
            "id": &*route.id,
            "path": listed.template,
            "method": conditions.method.as_ref().map(|method| method.as_str()),
            "host": conditions.host,
            "headers": conditions.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            "priority": conditions.priority,
            "derived": route.derived,
            "action": route.kind,
            "upstream": route.upstream.as_deref(),
            "authenticate": route.policy.authenticate,
            "scopes": scopes,
            "timeout_ms": u64::try_from(route.policy.timeout.as_millis()).unwrap_or(u64::MAX),
            "body_limit": route.policy.body,
            "idempotency": route.policy.idempotency.is_some(),
            "rate_limits": route.policy.rate_limits.iter().map(|limiter| &*limiter.name).collect::<Vec<_>>(),
        })
    });
    Json(json!({ "routes": routes.collect::<Vec<_>>(), "notes": snapshot.notes }))
}

async fn upstreams(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let snapshot = reloader.shared.snapshot();
    let upstreams =
        snapshot.upstreams.iter().map(|running| (running.config.name.clone(), json!(running.upstream.endpoints())));
    let lookups = snapshot.upstreams.iter().filter_map(|running| {
        let lookups = running.upstream.lookups();
        (!lookups.is_empty()).then(|| (running.config.name.clone(), json!(lookups)))
    });
    Json(json!({
        "upstreams": upstreams.collect::<serde_json::Map<_, _>>(),
        "lookups": lookups.collect::<serde_json::Map<_, _>>(),
    }))
}

async fn limits(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let snapshot = reloader.shared.snapshot();
    let mut places: Vec<_> = snapshot.limiters.iter().collect();
    places.sort_by_key(|(place, _)| *place);
    let limits = places.into_iter().map(|(place, limiter)| {
        let quota = match limiter.config.quota {
            Quota::Window { requests, per } => json!({ "requests": requests, "per_ms": per.as_millis() as u64 }),
            Quota::Rate { per_second, burst } => json!({ "per_second": per_second, "burst": burst }),
        };
        json!({
            "place": place,
            "name": &*limiter.name,
            "key": limiter.key.to_string(),
            "quota": quota,
            "shadow": limiter.shadow,
            "keys": limiter.keys(),
        })
    });
    Json(json!({ "limits": limits.collect::<Vec<_>>() }))
}

/// How this gateway stands with the others.
async fn shared(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let redis = reloader.shared.redis.as_ref().map(|redis| redis.standing());
    Json(json!({ "redis": redis }))
}

async fn config(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let status = reloader.status();
    Json(json!({
        "generation": reloader.shared.generation(),
        "last_reload": status,
        "api_keys": reloader.shared.authority.keys.load().len(),
    }))
}

async fn jwks(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    Json(reloader.shared.authority.signer.jwks())
}
