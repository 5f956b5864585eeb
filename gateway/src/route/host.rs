//! The host a request names (RFC 9112, section 3.2; RFC 9113, section 8.3.1): routes, rewrites and upstreams go by it, so there must be no doubt.

use std::borrow::Cow;

use http::{HeaderValue, Version, header::HOST, request::Parts};

/// Checks the field `Host`. HTTP/1.0 may do without, and so may HTTP/2 where the target has it as `:authority`.
///
/// # Errors
/// A sentence for the client where it is missing, there twice, can be no host, or is another than HTTP/2's target has.
pub fn check_host(parts: &Parts) -> Result<(), &'static str> {
    let target = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    match (hosts.next(), hosts.next()) {
        // It would go on as the Host, whose readers differ on which half is the name.
        _ if target.is_some_and(|target| target.contains(&b'@')) => Err("the target must not name a user"),
        (None, _) if parts.version == Version::HTTP_11 => Err("a request of HTTP/1.1 must have the header `Host`"),
        (None, _) if parts.version == Version::HTTP_2 && target.is_none() => {
            Err("a request of HTTP/2 must have `:authority` or the header `Host`")
        }
        (Some(_), Some(_)) => Err("the header `Host` is there more than once"),
        (Some(host), None) if !host.iter().all(can_be_in_host) => {
            Err("the header `Host` must be a name or an address, with or without a port")
        }
        (Some(host), None)
            if parts.version == Version::HTTP_2 && target.is_some_and(|target| !target.eq_ignore_ascii_case(host)) =>
        {
            Err("`:authority` and the header `Host` differ")
        }
        _ => Ok(()),
    }
}

/// What RFC 3986, section 3.2.2, has in a host, and what sets a port and an IPv6 address off.
fn can_be_in_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte)
}

/// The longest name there can be (RFC 1035, section 2.3.4), with its last dot. What is longer names no host of a route.
const LONGEST: usize = 254;

/// The host in lower case, without port and without the dot of the root: in the target (HTTP/2, absolute form), which goes
/// first, or in the header.
pub fn named(parts: &Parts) -> Option<Cow<'_, str>> {
    let host = match parts.uri.host() {
        Some(host) => host,
        None => without_port(parts.headers.get(HOST)?.to_str().ok()?),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > LONGEST {
        return None;
    }
    let is_lower = !host.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if is_lower { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) })
}

fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// Whether `host` is what a route wants: the name itself, or any below `*.example.com`. Both are in lower case.
pub fn is_below(wanted: &str, host: &str) -> bool {
    match wanted.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => wanted == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_of(header: &str) -> Option<String> {
        let parts = http::Request::builder().uri("/").header(HOST, header).body(()).unwrap().into_parts().0;
        named(&parts).map(Cow::into_owned)
    }

    #[test]
    fn a_host_is_taken_without_port_case_and_root() {
        for (header, host) in [
            ("Shop.Example:8080", Some("shop.example")),
            ("shop.example.", Some("shop.example")),
            ("shop.example.:80", Some("shop.example")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (":80", None),
        ] {
            assert_eq!(host_of(header).as_deref(), host, "{header}");
        }
        assert_eq!(host_of(&"a.".repeat(200)), None);
    }

    #[test]
    fn a_star_is_any_name_below_and_not_the_name_itself() {
        assert!(is_below("*.example", "shop.example"));
        assert!(is_below("*.example", "a.shop.example"));
        assert!(!is_below("*.example", ".example"));
        assert!(!is_below("*.example", "example"));
        assert!(!is_below("*.example", "shopexample"));
    }

    fn is_good(version: Version, uri: &str, hosts: &[&str]) -> bool {
        let mut request = http::Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check_host(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn http1_names_its_host_once() {
        assert!(is_good(Version::HTTP_11, "/", &["a.test:80"]));
        assert!(is_good(Version::HTTP_11, "/", &["[::1]:80"]));
        assert!(!is_good(Version::HTTP_11, "/", &[]));
        assert!(!is_good(Version::HTTP_11, "/", &["a.test", "a.test"]));
        assert!(!is_good(Version::HTTP_11, "/", &["me@a.test"]));
        assert!(is_good(Version::HTTP_10, "/", &[]));
        // RFC 9112, section 3.2.2: a target in absolute form goes before the field.
        assert!(is_good(Version::HTTP_11, "http://a.test/", &["b.test"]));
    }

    #[test]
    fn http2_names_one_host_in_one_place_or_in_both() {
        assert!(is_good(Version::HTTP_2, "http://a.test/", &[]));
        assert!(is_good(Version::HTTP_2, "http://a.test/", &["A.test"]));
        assert!(is_good(Version::HTTP_2, "/", &["a.test"]));
        assert!(!is_good(Version::HTTP_2, "http://a.test/", &["b.test"]));
        assert!(!is_good(Version::HTTP_2, "/", &[]));
        assert!(!is_good(Version::HTTP_2, "http://me@a.test/", &[]));
    }
}
