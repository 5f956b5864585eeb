use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::reload::Reloader;

/// What each TLS listener shows, and since when.
pub async fn show(State(reloader): State<Arc<Reloader>>) -> Json<Value> {
    let (snapshot, now) = (reloader.shared.snapshot(), OffsetDateTime::now_utc());
    let listeners = snapshot.listeners.iter().zip(&snapshot.tls);
    let certificates = listeners.filter_map(|(listener, terminator)| Some((listener, terminator.as_ref()?)));
    let certificates = certificates.flat_map(|(listener, terminator)| {
        terminator.certificates.iter().enumerate().map(move |(at, certificate)| {
            json!({
                "listener": listener.address,
                "default": at == 0,
                "certificate": certificate,
                "left_seconds": (certificate.not_after - now).whole_seconds(),
                "loaded_at": terminator.loaded_at.format(&Rfc3339).ok(),
                "clients": terminator.clients(),
            })
        })
    });
    Json(json!({ "certificates": certificates.collect::<Vec<_>>() }))
}
