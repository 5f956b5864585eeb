use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{
    limit::{self, Limiter, Quota, Values},
    reload::Reloader,
};

pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let (snapshot, now) = (reloader.shared.snapshot(), Instant::now());
    let mut places: Vec<_> = snapshot.limiters.iter().collect();
    places.sort_by_key(|(place, _)| *place);
    let limits = places.into_iter().map(|(place, limiter)| {
        let quota = match limiter.config.quota {
            Quota::Window { requests, per } => json!({ "requests": requests, "per_ms": per.as_millis() as u64 }),
            Quota::Rate { per_second, burst } => json!({ "per_second": per_second, "burst": burst }),
        };
        json!({
            "place": place,
            "name": &*limiter.name,
            "key": limiter.key.to_string(),
            "quota": quota,
            "policy": limiter.policy,
            "shadow": limiter.shadow,
            "shared": limiter.config.shared,
            "keys": limiter.keys(),
            "refused": limiter.pressure.refused(),
            "near": limiter.pressure.near(),
            "hottest": limiter.pressure.hottest(now),
        })
    });
    let concurrency = snapshot.concurrency.iter().map(|limit| {
        let (under_way, most) = limit.under_way();
        json!({
            "requests": limit.config.requests,
            "key": limit.config.key.to_string(),
            "keys": limit.keys(),
            "under_way": under_way,
            "most_of_one_key": most,
            "refused": limit.refused(),
        })
    });
    Json(json!({ "limits": limits.collect::<Vec<_>>(), "concurrency": concurrency.collect::<Vec<_>>() }))
}

/// What is left to one key: `?limit=PLACE&key=VALUE`, with a `key` for each part of it.
pub async fn key(State(reloader): State<Arc<Reloader>>, RawQuery(query): RawQuery) -> Response {
    asked(&reloader, query, async |limiter, values| {
        let together = match reloader.shared.redis.as_ref().filter(|_| limiter.config.shared) {
            Some(redis) => match limit::remaining(redis, limiter, values).await {
                Ok(remaining) => json!(remaining),
                Err(away) => json!(away.to_string()),
            },
            None => Value::Null,
        };
        Json(json!({
            "key": values.label(),
            "quota": limiter.quota(),
            "remaining": limiter.remaining(values.hash(), Instant::now()),
            "remaining_together": together,
        }))
        .into_response()
    })
    .await
}

/// Forgets what was counted for one key, here and, if it is counted together, for all gateways.
pub async fn reset(State(reloader): State<Arc<Reloader>>, RawQuery(query): RawQuery) -> Response {
    asked(&reloader, query, async |limiter, values| {
        limiter.forget(values.hash(), Instant::now());
        if let Some(redis) = reloader.shared.redis.as_ref().filter(|_| limiter.config.shared)
            && let Err(away) = limit::forget(redis, limiter, values).await
        {
            return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": away.to_string() }))).into_response();
        }
        tracing::info!(limit = &*limiter.name, key = values.label(), "a key of a rate limit begins anew");
        Json(json!({ "key": values.label(), "reset": true })).into_response()
    })
    .await
}

/// Finds what is asked for, by the limit's place or, if only one has it, its name.
async fn asked(
    reloader: &Reloader,
    query: Option<String>,
    answer: impl AsyncFnOnce(&Limiter, &Values<'_>) -> Response,
) -> Response {
    let missing = |what: &str| (StatusCode::NOT_FOUND, Json(json!({ "error": what }))).into_response();
    let query = query.unwrap_or_default();
    let all = |wanted: &str| -> Vec<String> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == wanted).map(|(_, value)| decoded(value)).collect()
    };
    let limiters = &reloader.shared.snapshot().limiters;
    let Some(wanted) = all("limit").pop() else { return missing("?limit=PLACE&key=VALUE") };
    let mut named = limiters.values().filter(|limiter| *limiter.name == *wanted);
    let limiter = match (limiters.get(&wanted), named.next(), named.next()) {
        (Some(limiter), ..) | (None, Some(limiter), None) => limiter,
        (None, Some(_), Some(_)) => return missing("several limits have this name: say which by its place"),
        (None, None, _) => return missing("there is no such limit"),
    };
    match limiter.key.read(&all("key")) {
        Some(values) => answer(limiter, &values).await,
        None => missing(&format!("the key is made of {}", limiter.key)),
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}
