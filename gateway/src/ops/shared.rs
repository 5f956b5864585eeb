use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::reload::Reloader;

/// How this gateway stands with the others.
pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let redis = reloader.shared.redis.as_ref().map(|redis| redis.standing());
    Json(json!({ "redis": redis }))
}
