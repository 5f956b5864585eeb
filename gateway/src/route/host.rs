//! The host a request names (RFC 9112, section 3.2; RFC 9113, section 8.3.1): routes, rewrites and upstreams go by it, so there must be no doubt.

use http::{HeaderValue, Version, header::HOST, request::Parts};

/// Checks the field `Host`. HTTP/1.0 may do without, and so may HTTP/2 where the target has it as `:authority`.
///
/// # Errors
/// A sentence for the client where it is missing, there twice, can be no host, or is another than HTTP/2's target has.
pub fn check_host(parts: &Parts) -> Result<(), &'static str> {
    let target = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    match (hosts.next(), hosts.next()) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
