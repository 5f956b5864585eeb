//! A strict HTTP/1.1 codec (RFC 9112) for both sides of a proxy.
