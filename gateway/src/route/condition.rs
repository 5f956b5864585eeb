//! What a request must be, beside its path, to take a route.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};

/// All must hold. None of them is the weakest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// None: any method.
    pub method: Option<Method>,
    /// Lower case, without port; `*.example.com` is any name below.
    pub host: Option<String>,
    /// A header with this value, or with any (None).
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Decides between routes with as many conditions; the greater wins.
    pub priority: i32,
    /// Derived from an annotation: any explicit route goes before it.
    pub derived: bool,
}

impl Conditions {
    /// Whether everything but the method holds.
    pub fn hold(&self, parts: &Parts) -> bool {
        self.host.as_deref().is_none_or(|wanted| host(parts).is_some_and(|host| same_host(wanted, host)))
            && self.headers.iter().all(|(name, value)| has(&parts.headers, name, value.as_ref()))
    }

    /// Explicit before derived, more conditions before fewer, greater priority before smaller.
    pub fn rank(&self) -> impl Ord + use<> {
        let count = usize::from(self.method.is_some()) + usize::from(self.host.is_some()) + self.headers.len();
        (self.derived, std::cmp::Reverse(count), std::cmp::Reverse(self.priority))
    }

    /// Whether no request can tell the two apart.
    pub fn clash(&self, other: &Self) -> bool {
        self == other
    }

    /// Whether this explicit route takes every request that `derived` could.
    pub fn hide(&self, derived: &Self) -> bool {
        !self.derived
            && derived.derived
            && self.host.is_none()
            && self.headers.is_empty()
            && (self.method.is_none() || self.method == derived.method)
    }
}

fn has(headers: &HeaderMap, name: &HeaderName, value: Option<&HeaderValue>) -> bool {
    match value {
        Some(value) => headers.get_all(name).iter().any(|own| own == value),
        None => headers.contains_key(name),
    }
}

/// The host a request names: in its URI (HTTP/2) or its `Host` header.
fn host(parts: &Parts) -> Option<&str> {
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => parts.headers.get(header::HOST)?.to_str().ok()?,
    };
    let end = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => colon,
        _ => authority.len(),
    };
    Some(&authority[..end])
}

fn same_host(wanted: &str, host: &str) -> bool {
    match wanted.strip_prefix('*') {
        Some(suffix) => {
            host.len() > suffix.len()
                && host.as_bytes()[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
        }
        None => host.eq_ignore_ascii_case(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(host: &str) -> Parts {
        http::Request::builder().uri("/").header("host", host).header("x-version", "2").body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_host_is_compared_without_port_and_case() {
        let conditions = |host: &str| Conditions { host: Some(host.to_owned()), ..Conditions::default() };
        assert!(conditions("shop.example").hold(&parts("Shop.Example:8080")));
        assert!(conditions("*.example").hold(&parts("shop.example")));
        assert!(!conditions("*.example").hold(&parts(".example")));
        assert!(!conditions("shop.example").hold(&parts("other.example")));
        assert!(conditions("[::1]").hold(&parts("[::1]:80")));
    }

    #[test]
    fn a_header_is_asked_for_by_presence_or_value() {
        let with = |value: Option<&'static str>| Conditions {
            headers: vec![(HeaderName::from_static("x-version"), value.map(HeaderValue::from_static))],
            ..Conditions::default()
        };
        assert!(with(None).hold(&parts("a")));
        assert!(with(Some("2")).hold(&parts("a")));
        assert!(!with(Some("3")).hold(&parts("a")));
    }
}
