use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::reload::Reloader;

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let status = reloader.status();
    Json(json!({
        "generation": reloader.shared.generation(),
        "last_reload": status,
        "api_keys": reloader.shared.authority.keys.load().len(),
    }))
}

/// Answers once the configuration is in force, or was refused.
pub async fn reload(State(reloader): State<Arc<Reloader>>) -> Response {
    reloader.reload();
    let (generation, status) = (reloader.shared.generation(), reloader.status());
    let code = if status.ok { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    (code, Json(json!({ "generation": generation, "errors": status.errors }))).into_response()
}
