//! Keeps pages of other sites, open in an operator's browser, from changing anything by the ops listener: it asks for no
//! credentials, so whoever reaches it may.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

pub async fn refuse(request: Request, next: Next) -> Response {
    if request.method().is_safe() || !from_another_site(request.headers()) {
        return next.run(request).await;
    }
    let body = json!({
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "a page of another site can't change anything here",
    });
    (StatusCode::FORBIDDEN, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

/// Browsers say so; who says nothing is no browser.
fn from_another_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    headers.contains_key("origin") || site.is_some_and(|site| site != b"same-origin" && site != b"none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_site_is_refused() {
        let mut headers = HeaderMap::new();
        assert!(!from_another_site(&headers));
        headers.insert("sec-fetch-site", "none".parse().unwrap());
        assert!(!from_another_site(&headers));
        headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert!(from_another_site(&headers));
    }
}
