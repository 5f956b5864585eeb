//! What a token of an issuer must say, and whom it makes its bearer.

use std::collections::BTreeMap;

use principal::Principal;
use serde_json::Value;

use super::{Rejected, token::Claims};
use crate::config::Jwt;

/// The longest subject, in bytes.
const LONGEST_SUBJECT: usize = 256;
/// Subjects of services that act on their own: no token from outside speaks for them.
const SERVICES: &str = "/services/";

/// What a token says that is believed.
#[derive(Debug)]
pub struct Believed {
    pub principal: Principal,
    /// Its id (`jti`).
    pub id: Option<String>,
    /// When it was issued, in seconds since 1970.
    pub issued: Option<i64>,
    /// When it ends.
    pub expires: i64,
}

/// Judges the claims; the signature is judged elsewhere. `now` is in seconds since 1970.
pub fn judge(claims: &Claims, rules: &Jwt, now: i64) -> Result<Believed, Rejected> {
    let leeway = seconds(rules.leeway);
    if !audience(claims, &rules.audience.0) {
        return Err(Rejected("the token is for someone else"));
    }
    let expires = claims.time("exp")?.ok_or(Rejected("the token says no end of its own"))?;
    if expires.saturating_add(leeway) <= now {
        return Err(Rejected("the token has expired"));
    }
    if claims.time("nbf")?.is_some_and(|begins| begins > now + leeway) {
        return Err(Rejected("the token is not good yet"));
    }
    let issued = claims.time("iat")?;
    if issued.is_some_and(|issued| issued > now + leeway) {
        return Err(Rejected("the token is from the future"));
    }
    if expires - issued.unwrap_or(now) > seconds(rules.max_lifetime) + leeway {
        return Err(Rejected("the token is good for longer than is allowed here"));
    }
    if rules.required_claims.iter().any(|name| claims.get(name).is_none()) {
        return Err(Rejected("the token lacks a claim that is needed here"));
    }
    let id = match claims.get("jti") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return Err(Rejected("the token's id is not text")),
    };
    Ok(Believed { principal: principal(claims, rules)?, id, issued, expires })
}

fn principal(claims: &Claims, rules: &Jwt) -> Result<Principal, Rejected> {
    let own = claims.text(&rules.subject_claim).filter(|own| !own.is_empty());
    let subject = format!("{}{}", rules.subject_prefix, own.ok_or(Rejected("the token says not whose it is"))?);
    if subject.len() > LONGEST_SUBJECT || subject.starts_with(SERVICES) || subject.chars().any(char::is_control) {
        return Err(Rejected("the token's subject is not accepted"));
    }
    let scopes = match claims.get(&rules.scopes_claim) {
        None => Vec::new(),
        Some(scopes) => words(scopes).ok_or(Rejected("the token's scopes are neither text nor a list of it"))?,
    };
    let kept = rules.claims.iter().filter_map(|name| Some((name.clone(), written(claims.get(name)?)?)));
    Ok(Principal { subject, scopes, claims: kept.collect::<BTreeMap<_, _>>() })
}

fn audience(claims: &Claims, ours: &[String]) -> bool {
    let is_ours = |value: &Value| value.as_str().is_some_and(|text| ours.iter().any(|own| own == text));
    match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(is_ours),
        Some(one) => is_ours(one),
        None => false,
    }
}

/// Scopes are one text (RFC 8693, section 4.2) or, with some issuers, a list.
fn words(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(text.split_ascii_whitespace().map(str::to_owned).collect()),
        Value::Array(list) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A claim as principals have it: text. A list is its words with spaces between, without what is no single word: a group
/// that somebody called `x admin` is not the word `admin`. An object is not kept.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) => words(value).map(|mut list| {
            list.retain(|item| !item.is_empty() && !item.contains(char::is_whitespace));
            list.join(" ")
        }),
        Value::Null | Value::Object(_) => None,
    }
}

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn rules(more: &str) -> Jwt {
        let text = format!("{{issuer: 'https://id.example', audience: [api, other], jwks_file: keys.json{more}}}");
        serde_saphyr::from_str(&text).unwrap()
    }

    fn judged(change: serde_json::Value, more: &str) -> Result<Believed, &'static str> {
        let mut claims = json!({"iss": "https://id.example", "sub": "1", "aud": "api", "exp": NOW + 60, "iat": NOW});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        judge(&serde_json::from_value(claims).unwrap(), &rules(more), NOW).map_err(|rejected| rejected.0)
    }

    #[test]
    fn a_token_makes_a_principal() {
        let change =
            json!({"scope": "a b", "tenant": "t", "age": 7, "roles": ["x", "y"], "deep": {"a": 1}, "jti": "j"});
        let believed = judged(change, ", subject_prefix: users/, claims: [tenant, age, roles, deep, gone]").unwrap();
        assert_eq!(believed.principal.subject, "users/1");
        assert_eq!(believed.principal.scopes, ["a", "b"]);
        let claims: Vec<_> = believed.principal.claims.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(claims, ["age=7", "roles=x y", "tenant=t"]);
        assert_eq!((believed.id.as_deref(), believed.issued), (Some("j"), Some(NOW)));
        let named_to_deceive = judged(json!({"roles": ["x", "y admin", "", "\u{a0}z"]}), ", claims: [roles]").unwrap();
        assert_eq!(named_to_deceive.principal.claims["roles"], "x");
        let listed = judged(json!({"scp": ["a", "b"]}), ", scopes_claim: scp").unwrap();
        assert_eq!(listed.principal.scopes, ["a", "b"]);
    }

    #[test]
    fn each_claim_is_held_to_its_rule() {
        for (change, reason) in [
            (json!({"aud": "else"}), "the token is for someone else"),
            (json!({"aud": null}), "the token is for someone else"),
            (json!({"aud": []}), "the token is for someone else"),
            (json!({"aud": {"api": 1}}), "the token is for someone else"),
            (json!({"exp": null}), "the token says no end of its own"),
            (json!({"exp": NOW - 30}), "the token has expired"),
            (json!({"exp": "soon"}), "a time in the token is not one"),
            (json!({"nbf": NOW + 31}), "the token is not good yet"),
            (json!({"iat": NOW + 31}), "the token is from the future"),
            (json!({"exp": NOW + 8 * 86_400}), "the token is good for longer than is allowed here"),
            (json!({"sub": ""}), "the token says not whose it is"),
            (json!({"sub": 7}), "the token says not whose it is"),
            (json!({"sub": "/services/billing"}), "the token's subject is not accepted"),
            (json!({"sub": "a\nb"}), "the token's subject is not accepted"),
            (json!({"sub": "a".repeat(257)}), "the token's subject is not accepted"),
            (json!({"scope": 7}), "the token's scopes are neither text nor a list of it"),
            (json!({"jti": 7}), "the token's id is not text"),
        ] {
            assert_eq!(judged(change.clone(), "").err(), Some(reason), "{change}");
        }
        for change in [
            json!({"aud": ["else", "other"]}),
            json!({"exp": NOW - 29}),
            json!({"nbf": NOW + 30}),
            json!({"iat": NOW + 30}),
            json!({"iat": null}),
        ] {
            assert!(judged(change.clone(), "").is_ok(), "{change}");
        }
        assert!(judged(json!({}), ", required_claims: [tenant]").is_err());
        assert!(judged(json!({"tenant": "a"}), ", required_claims: [tenant]").is_ok());
    }
}
