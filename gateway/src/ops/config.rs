use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::reload::{Reloader, Trigger};

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let files = reloader.files();
    Json(json!({
        "generation": reloader.shared.generation(),
        "last_reload": reloader.status(),
        "files": files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        "snapshots": reloader.snapshots(),
        "api_keys": reloader.shared.authority.keys.load().len(),
        "configuration": reloader.written(),
    }))
}

/// Answers once the configuration is in force, or was refused.
pub async fn reload(State(reloader): State<Arc<Reloader>>) -> Response {
    let (generation, status) = reloader.reload(Trigger::Request).await;
    let code = if status.ok { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    (code, Json(json!({ "generation": generation, "errors": status.errors, "changed": status.changed })))
        .into_response()
}
