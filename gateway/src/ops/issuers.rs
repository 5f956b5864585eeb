use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{auth::jwt::Issuer, reload::Reloader};

/// Whose tokens are believed, by which keys, and how old those are.
pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let snapshot = reloader.shared.snapshot();
    let issuers: Vec<_> = snapshot.tokens.issuers().iter().map(|issuer| described(issuer)).collect();
    Json(json!({ "issuers": issuers, "tokens_at_hand": snapshot.tokens.at_hand() }))
}

fn described(issuer: &Issuer) -> Value {
    let status = issuer.source.status();
    let held = issuer.source.held();
    let keys = held.iter().flat_map(|held| held.keys.iter()).map(|key| {
        let algorithms: Vec<_> = key.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        json!({ "kid": key.id, "algorithms": algorithms })
    });
    let text = |time: Option<OffsetDateTime>| time.and_then(|time| time.format(&Rfc3339).ok());
    json!({
        "issuer": issuer.rules.issuer,
        "from": issuer.rules.jwks_url.clone().or_else(|| issuer.rules.jwks_file.as_ref().map(|file| file.display().to_string())),
        "keys": keys.collect::<Vec<_>>(),
        "fetched": text(status.fetched),
        "age_seconds": held.as_ref().map(|held| held.age().as_secs()),
        "next": text(status.next),
        "error": status.error,
    })
}
