use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::Value;

use crate::reload::Reloader;

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let shared = &reloader.shared;
    Json(shared.overload.show(&shared.snapshot().edge.overload))
}
