use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::reload::Reloader;

/// What is followed for revocations, and how many are kept.
pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let revocations = &reloader.shared.authority.revocations;
    Json(json!({ "standing": revocations.standing(), "kept": revocations.len() }))
}
