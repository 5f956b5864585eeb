use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::reload::Reloader;

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let snapshot = reloader.shared.snapshot();
    let upstreams =
        snapshot.upstreams.iter().map(|running| (running.config.name.clone(), json!(running.upstream.endpoints())));
    let sources = snapshot.upstreams.iter().filter_map(|running| {
        let sources = running.upstream.sources();
        (!sources.is_empty()).then(|| (running.config.name.clone(), json!(sources)))
    });
    let states = snapshot.upstreams.iter().map(|running| {
        let upstream = &running.upstream;
        (running.config.name.clone(), json!({ "breaker": upstream.breaker(), "panic": upstream.is_in_panic() }))
    });
    Json(json!({
        "upstreams": upstreams.collect::<serde_json::Map<_, _>>(),
        "states": states.collect::<serde_json::Map<_, _>>(),
        "sources": sources.collect::<serde_json::Map<_, _>>(),
    }))
}
