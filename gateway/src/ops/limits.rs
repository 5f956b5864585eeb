use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{limit::Quota, reload::Reloader};

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
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
