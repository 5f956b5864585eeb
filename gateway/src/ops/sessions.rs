use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::reload::Reloader;

/// Sessions on a page.
const PAGE: usize = 100;

/// A page of sessions: `?after=` what the page before calls `next`. Their ids open nothing.
pub async fn show(State(reloader): State<Arc<Reloader>>, Query(query): Query<HashMap<String, String>>) -> Response {
    let after = query.get("after").map(String::as_str);
    match reloader.shared.authority.sessions.list(after, PAGE).await {
        Ok(page) => Json(json!(page)).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error.detail, "cause": error.cause })))
            .into_response(),
    }
}
