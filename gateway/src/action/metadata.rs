//! What of a request's headers a gRPC service gets as metadata: an allow-list, and what only the gateway may say.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::ConfigError;
use crate::context::RequestContext;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const PRINCIPAL: HeaderName = HeaderName::from_static(principal::METADATA);

/// Headers that mean something to the connection or to gRPC itself, and so can't be forwarded by name.
const RESERVED: [&str; 15] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// The compiled allow-list.
#[derive(Clone, Debug)]
pub struct Forward(Vec<HeaderName>);

impl Forward {
    /// Names of `forward_headers`. Error paths are `forward_headers[0]`.
    ///
    /// # Errors
    /// A name that isn't one, or that the gateway or the protocol sets itself.
    pub fn new<S: AsRef<str>>(names: &[S]) -> Result<Self, Vec<ConfigError>> {
        let (mut allowed, mut errors) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().map(AsRef::as_ref).enumerate() {
            match HeaderName::try_from(name) {
                Ok(name) if !is_reserved(name.as_str()) => allowed.push(name),
                Ok(_) => errors.push(ConfigError::new(
                    format!("forward_headers[{index}]"),
                    format!("`{name}` is set by the gateway or by the protocol"),
                )),
                Err(_) => errors.push(ConfigError::new(
                    format!("forward_headers[{index}]"),
                    format!("`{name}` is not the name of a header"),
                )),
            }
        }
        if errors.is_empty() { Ok(Self(allowed)) } else { Err(errors) }
    }

    /// What of a request's headers goes along.
    pub fn of<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        self.0.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)))
    }

    /// The metadata of a call made for this request.
    pub fn metadata(&self, headers: &HeaderMap, context: &RequestContext) -> HeaderMap {
        let mut metadata = HeaderMap::with_capacity(8);
        for name in &self.0 {
            for value in headers.get_all(name) {
                metadata.append(name.clone(), value.clone());
            }
        }
        telemetry::inject(&context.trace.child(), &mut metadata);
        if let Ok(id) = HeaderValue::from_str(&context.request_id) {
            metadata.insert(REQUEST_ID, id);
        }
        if let Some(authenticated) = &context.principal {
            metadata.insert(PRINCIPAL, authenticated.token.clone());
        }
        metadata
    }
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with("turnpike-") || name.starts_with("grpc-") || name.ends_with("-bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_only_the_gateway_may_set_are_not_forwarded() {
        let errors = Forward::new(&["prefer", "turnpike-principal", "grpc-timeout", "b b"]).unwrap_err();
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["forward_headers[1]", "forward_headers[2]", "forward_headers[3]"]);
        assert!(Forward::new(&["prefer", "Idempotency-Key"]).is_ok());
    }
}
