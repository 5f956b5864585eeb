//! What a caller that is refused is told of how to be let in (RFC 6750, section 3). One that showed nothing gets the plain
//! challenge, which `problem` adds to every 401.

use http::{HeaderValue, header};

use crate::error::{Error, ErrorKind};

/// 401: what was shown is not good. `why` has no quotes and no backslashes.
pub fn invalid_token(why: &'static str) -> Error {
    refusal(ErrorKind::Unauthenticated, "invalid_token", why)
}

/// 401: it can't be told what was shown.
pub fn invalid_request(why: &'static str) -> Error {
    refusal(ErrorKind::Unauthenticated, "invalid_request", why)
}

/// 403: who calls is known, and may not. `scopes` would have helped, as far as that is a matter of scopes.
pub fn insufficient_scope<'a>(detail: String, scopes: impl Iterator<Item = &'a str>) -> Error {
    let error = Error::new(ErrorKind::Forbidden, detail);
    let scopes = scopes.collect::<Vec<_>>().join(" ");
    let challenge = format!("Bearer realm=\"turnpike\", error=\"insufficient_scope\", scope=\"{scopes}\"");
    match HeaderValue::try_from(challenge) {
        Ok(challenge) if !scopes.is_empty() && !scopes.contains(['"', '\\']) => {
            error.header(header::WWW_AUTHENTICATE, challenge)
        }
        _ => error,
    }
}

fn refusal(kind: ErrorKind, code: &str, why: &'static str) -> Error {
    let error = Error::new(kind, why);
    let challenge = format!("Bearer realm=\"turnpike\", error=\"{code}\", error_description=\"{why}\"");
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => error.header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => error,
    }
}
