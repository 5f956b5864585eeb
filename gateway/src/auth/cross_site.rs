//! Keeps other sites from using a browser's session, or its certificate: an unsafe request that a browser authenticates by
//! itself must come from our own pages. Browsers say where a request comes from in `Sec-Fetch-Site` and `Origin`; who says neither is no browser.
//!
//! A WebSocket's handshake is a GET, but what it opens reads and writes with the session, and no browser keeps another
//! site's page from opening it (RFC 6455, section 10.2): it counts as unsafe.

use http::{HeaderMap, Method, Uri, header};

/// Whether a request that a cookie or a certificate authenticates may go on. `allowed` are origins that CORS lets send credentials.
pub fn allows(method: &Method, uri: &Uri, headers: &HeaderMap, allowed: impl Fn(&str) -> bool) -> bool {
    if method.is_safe() && !headers.contains_key(header::UPGRADE) {
        return true;
    }
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("null"));
    if origin.is_some_and(allowed) {
        return true;
    }
    match headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        Some(b"same-origin" | b"none") => true,
        Some(_) => false,
        None => origin.is_none_or(|origin| same_host(origin, uri, headers)),
    }
}

/// Whether a page's origin is of this host, port included. The scheme is not compared: a proxy in front may have taken TLS
/// off.
pub fn is_of(origin: &str, host: &[u8]) -> bool {
    origin.split_once("://").is_some_and(|(_, origin)| origin.as_bytes().eq_ignore_ascii_case(host))
}

fn same_host(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(header::HOST).and_then(|host| host.to_str().ok()),
    };
    host.is_some_and(|host| is_of(origin, host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(method: Method, origin: Option<&str>, site: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "shop.example:8080".parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        if let Some(site) = site {
            headers.insert("sec-fetch-site", site.parse().unwrap());
        }
        allows(&method, &Uri::from_static("/cart/add"), &headers, |origin| origin == "https://app.example")
    }

    #[test]
    fn another_site_can_not_open_a_websocket_with_a_session() {
        let open = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "shop.example".parse().unwrap());
            headers.insert(header::UPGRADE, "websocket".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            allows(&Method::GET, &Uri::from_static("/ws"), &headers, |_| false)
        };
        assert!(!open(Some("https://evil.example")));
        assert!(!open(Some("null")));
        assert!(open(Some("https://shop.example")));
        assert!(open(None), "not a browser");
    }

    #[test]
    fn another_site_can_not_use_a_session() {
        assert!(decide(Method::GET, Some("https://evil.example"), Some("cross-site")), "a safe method changes nothing");
        assert!(!decide(Method::POST, Some("https://evil.example"), None));
        assert!(!decide(Method::POST, Some("null"), None));
        assert!(!decide(Method::POST, None, Some("cross-site")));
        assert!(!decide(Method::DELETE, None, Some("same-site")));
        assert!(decide(Method::POST, None, None), "not a browser");
        assert!(decide(Method::POST, Some("http://shop.example:8080"), None));
        assert!(decide(Method::POST, Some("http://shop.example:8080"), Some("same-origin")));
        assert!(decide(Method::POST, Some("https://app.example"), Some("cross-site")), "allowed by CORS");
    }
}
