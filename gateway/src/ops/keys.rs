use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::Value;

use crate::reload::Reloader;

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    Json(reloader.shared.authority.signer.jwks())
}
