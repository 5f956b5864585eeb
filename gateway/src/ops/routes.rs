use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{reload::Reloader, route::Scopes};

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
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
            "query": conditions.query.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "priority": conditions.priority,
            "derived": route.derived,
            "action": route.kind,
            "upstream": route.upstream.as_deref(),
            "authenticate": route.policy.authenticate,
            "scopes": scopes,
            "authorise": route.policy.rule.as_ref().map(ToString::to_string),
            "timeout_ms": u64::try_from(route.policy.timeout.as_millis()).unwrap_or(u64::MAX),
            "body_limit": route.policy.body,
            "idempotency": route.policy.idempotency.is_some(),
            "concurrency": route.policy.concurrency.iter().map(|limit| limit.config.key.to_string()).collect::<Vec<_>>(),
            "addresses": route.policy.addresses.is_some(),
            "rate_limits": route.policy.rate_limits.iter().map(|limiter| &*limiter.name).collect::<Vec<_>>(),
        })
    });
    Json(json!({ "routes": routes.collect::<Vec<_>>(), "notes": snapshot.notes }))
}
