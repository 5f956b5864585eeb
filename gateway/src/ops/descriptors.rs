use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::reload::Reloader;

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let snapshot = reloader.shared.snapshot();
    let awaited = snapshot.awaited.iter().map(|(path, upstream)| json!({"path": path, "upstream": upstream}));
    Json(json!({
        "upstreams": reloader.live().views(),
        "awaited": awaited.collect::<Vec<_>>(),
    }))
}
