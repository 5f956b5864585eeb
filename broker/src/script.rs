//! `GET /client.js` and `/client.classic.js`: the client in JavaScript, from the broker that it is for.

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::shared::Shared;

const MODULE: &str = include_str!("../../clients/javascript/turnpike.js");
const CLASSIC: &str = include_str!("../../clients/javascript/turnpike.classic.js");

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/client.js", get(async |headers: HeaderMap| script(MODULE, &headers)))
        .route("/client.classic.js", get(async |headers: HeaderMap| script(CLASSIC, &headers)))
}

/// A page asks each time whether there is another one, since a broker that is replaced may bring one.
fn script(text: &'static str, headers: &HeaderMap) -> Response {
    let etag = format!("\"{:016x}\"", fingerprint(text));
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    let mut response = if known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// FNV-1a: it has to change with the text, not to withstand a forger.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
