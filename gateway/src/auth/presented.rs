//! The credential that a request's header presents. A request has one of these or none: with two it can't be known which
//! of them whoever is in front of us looked at (RFC 6750, section 2). A cookie doesn't count, since browsers send it along
//! by themselves; it is looked at where there is nothing else.

use http::{HeaderMap, HeaderName, header};

use super::keys;

pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    Nothing,
    ApiKey(&'a str),
    /// Of `Authorization: Bearer`, and no key of ours.
    Token(&'a str),
}

/// Why what is presented can't be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Muddled(pub &'static str);

/// # Errors
/// If there is more than one credential, or it has no form.
pub fn presented(headers: &HeaderMap) -> Result<Presented<'_>, Muddled> {
    const SEVERAL: Muddled = Muddled("the request has more than one credential");
    const FORMLESS: Muddled = Muddled("the credential is not well formed");
    let mut keys = headers.get_all(&X_API_KEY).iter();
    let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
    let (key, authorization) = (keys.next(), authorizations.next());
    if keys.next().is_some() || authorizations.next().is_some() {
        return Err(SEVERAL);
    }
    let bearer = authorization.and_then(|value| bearer(value.as_bytes()));
    match (key, bearer) {
        (None, None) => Ok(Presented::Nothing),
        (Some(_), Some(_)) => Err(SEVERAL),
        (Some(key), None) => key.to_str().map(Presented::ApiKey).map_err(|_| FORMLESS),
        (None, Some(token)) => match std::str::from_utf8(token) {
            Ok(token) if token.is_empty() || token.contains([' ', '\t', ',']) => Err(FORMLESS),
            Ok(key) if key.starts_with(keys::PREFIX) => Ok(Presented::ApiKey(key)),
            Ok(token) => Ok(Presented::Token(token)),
            Err(_) => Err(FORMLESS),
        },
    }
}

/// What stands after `Bearer`, in whatever case it is written; None of another scheme.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let own = scheme.eq_ignore_ascii_case(b"bearer") && rest.first().is_none_or(|next| *next == b' ');
    own.then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_bearer_is_a_key_or_a_token() {
        for (value, expected) in [
            ("Bearer tk_a_b", Presented::ApiKey("tk_a_b")),
            ("bearer  a.b.c ", Presented::Token("a.b.c")),
            ("BEARER x", Presented::Token("x")),
            ("Basic YTpi", Presented::Nothing),
            ("Bearers x", Presented::Nothing),
        ] {
            assert_eq!(presented(&headers(&[("authorization", value)])), Ok(expected), "{value}");
        }
        assert_eq!(presented(&headers(&[("x-api-key", "anything")])), Ok(Presented::ApiKey("anything")));
        assert_eq!(presented(&headers(&[("cookie", "a=b")])), Ok(Presented::Nothing));
    }

    #[test]
    fn one_credential_is_enough() {
        let (token, key) = (("authorization", "Bearer x"), ("x-api-key", "tk_a_b"));
        for several in [
            &[token, token][..],
            &[key, key],
            &[token, key],
            &[token, ("authorization", "Basic YTpi")],
            &[("authorization", "Basic YTpi"), ("authorization", "Basic YTpi")],
        ] {
            assert_eq!(presented(&headers(several)), Err(Muddled("the request has more than one credential")));
        }
        for formless in ["Bearer", "Bearer ", "bearer a b", "Bearer a, Bearer b"] {
            assert_eq!(
                presented(&headers(&[("authorization", formless)])),
                Err(Muddled("the credential is not well formed")),
                "{formless}"
            );
        }
    }
}
