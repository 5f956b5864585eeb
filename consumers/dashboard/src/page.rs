//! The pages and what they are made of, in the program itself. Assets lie below a folder named after their contents, so that
//! they may be kept for ever. Nobody has to be signed in to see it: it asks.

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::problem::Problem;

const OVERVIEW: &str = include_str!("../page/index.html");
const WEBHOOKS: &str = include_str!("../page/webhooks.html");

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

const ASSETS: [(&str, &str, &str); 15] = [
    ("app.css", CSS, include_str!("../page/app.css")),
    ("app.js", JS, include_str!("../page/app.js")),
    ("theme.js", JS, include_str!("../page/theme.js")),
    ("feed.js", JS, include_str!("../page/feed.js")),
    ("turnpike.js", JS, include_str!("../../../clients/javascript/turnpike.js")),
    ("model.js", JS, include_str!("../page/model.js")),
    ("text.js", JS, include_str!("../page/text.js")),
    ("charts.js", JS, include_str!("../page/charts.js")),
    ("counts.js", JS, include_str!("../page/counts.js")),
    ("panels.js", JS, include_str!("../page/panels.js")),
    ("recent.js", JS, include_str!("../page/recent.js")),
    ("dialogs.js", JS, include_str!("../page/dialogs.js")),
    ("webhooks.js", JS, include_str!("../page/webhooks.js")),
    ("uplot.css", CSS, include_str!("../vendor/uplot/uPlot.min.css")),
    ("uplot.js", JS, include_str!("../vendor/uplot/uPlot.iife.min.js")),
];

/// Scripts and styles of ours alone: whatever an event holds, nothing in it runs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Clone)]
struct Page {
    html: String,
    etag: String,
}

pub(crate) fn router() -> Router {
    let version = version();
    let assets = format!("/dashboard/assets/{version}");
    let page = |html: &str| Page { html: html.replace("{{assets}}", &assets), etag: format!("\"{version}\"") };
    let (overview, webhooks) = (page(OVERVIEW), page(WEBHOOKS));
    Router::new()
        .route("/dashboard", get(async move |headers| html(overview, &headers)))
        .route("/dashboard/webhooks", get(async move |headers| html(webhooks, &headers)))
        .route("/dashboard/assets/{version}/{name}", get(asset))
        .with_state(version)
}

fn html(page: Page, headers: &HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let fresh = known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == page.etag));
    let mut response = match fresh {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.html).into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&page.etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn asset(
    State(current): State<String>,
    Path((version, name)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let found = ASSETS.iter().find(|(asset, ..)| *asset == name).filter(|_| version == current);
    let (_, kind, text) = found.ok_or_else(|| Problem::not_found("the page has another version now"))?;
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, *text).into_response())
}

/// FNV-1a over everything: it has to change with the contents, not to withstand a forger.
fn version() -> String {
    let bytes = ASSETS
        .iter()
        .flat_map(|(name, _, text)| name.bytes().chain(text.bytes()))
        .chain(OVERVIEW.bytes())
        .chain(WEBHOOKS.bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}
