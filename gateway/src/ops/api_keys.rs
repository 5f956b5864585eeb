use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::reload::Reloader;

/// Keys on the page.
const MOST: usize = 1_000;

/// Every API key by its id, without what opens: whose it is, until when, and when it was last used.
pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let keys = reloader.shared.authority.keys.load();
    let text = |time: Option<OffsetDateTime>| time.and_then(|time| time.format(&Rfc3339).ok());
    let mut listed: Vec<_> = keys.iter().collect();
    listed.sort_by(|a, b| a.id.cmp(b.id));
    let listed = listed.into_iter().take(MOST).map(|key| {
        json!({
            "id": key.id,
            "subject": key.credential.principal.subject,
            "scopes": key.credential.principal.scopes,
            "revoked": key.revoked || reloader.shared.authority.revocations.revoked(key.credential),
            "expires": text(key.expires),
            "last_used": text(key.last_used),
        })
    });
    Json(json!({ "count": keys.len(), "keys": listed.collect::<Vec<_>>() }))
}
