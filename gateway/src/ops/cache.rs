use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{cache::Mark, metrics::METRICS, reload::Reloader};

/// What is kept, and where purges come from.
pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let store = &reloader.shared.cache;
    Json(json!({ "kept": store.figures(), "purging": store.standing() }))
}

/// Purges on this gateway alone: `?tag=`, as often as there are tags, `?prefix=` or `?all=true`. Events purge on all.
pub async fn purge(State(reloader): State<Arc<Reloader>>, RawQuery(query): RawQuery) -> Response {
    let store = &reloader.shared.cache;
    let query = query.unwrap_or_default();
    let pairs: Vec<(&str, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, percent_decode_str(value).decode_utf8_lossy().into_owned()))
        .collect();
    let known = |(name, value): &(&str, String)| match *name {
        "tag" | "prefix" => !value.is_empty(),
        "all" => value == "true",
        _ => false,
    };
    if pairs.is_empty() || !pairs.iter().all(known) {
        let error = json!({ "error": "?tag=TAG, ?prefix=https://host/path or ?all=true" });
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let mut targets = 0;
    for (name, value) in &pairs {
        match *name {
            "tag" => {
                store.purge(Mark::of_tag(value));
                METRICS.cache_purged("tag");
            }
            "prefix" => {
                targets += store.purge_prefix(value);
                METRICS.cache_purged("prefix");
            }
            _ => {
                store.purge_all();
                METRICS.cache_purged("all");
            }
        }
    }
    tracing::info!(query, "an operator has purged the cache");
    let by_prefix = pairs.iter().any(|(name, _)| *name == "prefix").then_some(targets);
    Json(json!({ "purged": true, "targets": by_prefix })).into_response()
}
