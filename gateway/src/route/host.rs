//! The host a request names (RFC 9112, section 3.2): routes, rewrites and upstreams go by it, so there must be no doubt.

use http::{Version, header::HOST, request::Parts};

/// Checks the field `Host`. HTTP/1.0 may do without, and so may HTTP/2, whose target has it.
///
/// # Errors
/// A sentence for the client where it is missing, there twice, or can be no host.
pub fn check_host(parts: &Parts) -> Result<(), &'static str> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if parts.version == Version::HTTP_11 => Err("a request of HTTP/1.1 must have the header `Host`"),
        (Some(_), Some(_)) => Err("the header `Host` is there more than once"),
        (Some(host), None) if !host.as_bytes().iter().all(can_be_in_host) => {
            Err("the header `Host` must be a name or an address, with or without a port")
        }
        _ => Ok(()),
    }
}

/// What RFC 3986, section 3.2.2, has in a host, and what sets a port and an IPv6 address off.
fn can_be_in_host(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte)
}
