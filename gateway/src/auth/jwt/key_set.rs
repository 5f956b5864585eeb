//! The public keys of an issuer (a JWK Set, RFC 7517), each bound to the algorithms it may be used with: which one counts
//! is decided by the key and the configuration, and a token can only agree.

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;

use super::Algorithm;

/// The most keys that a set is read to.
const MOST: usize = 100;
/// The longest name of a key, in bytes.
pub const LONGEST_ID: usize = 256;

/// The keys that can be used.
#[derive(Default)]
pub struct KeySet(Vec<Key>);

pub struct Key {
    pub id: Option<Box<str>>,
    pub algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// What a set holds for a token.
pub enum Found<'a> {
    Key(&'a Key),
    /// There is such a key, for other algorithms.
    OfAnotherKind,
    Unknown,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a set. Keys that are of no use here are left out: symmetric ones, those for encryption, those of algorithms
    /// that are not allowed or not known.
    ///
    /// # Errors
    /// If it is no set, or has no key that can be used.
    pub fn parse(document: &[u8], allowed: &[Algorithm]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(document).map_err(|error| format!("not a JWK Set (RFC 7517): {error}"))?;
        let keys: Vec<_> = document.keys.into_iter().take(MOST).filter_map(|key| Key::read(key, allowed)).collect();
        if keys.is_empty() {
            return Err("has no key that signs by an allowed algorithm".to_owned());
        }
        Ok(Self(keys))
    }

    /// The key that a token was signed with, by what its header says. A token that names none is believed only where a
    /// single key comes into question.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let mut named = self.0.iter().filter(|key| id.is_none() || key.id.as_deref() == id).peekable();
        if named.peek().is_none() {
            return Found::Unknown;
        }
        let mut fitting = named.filter(|key| key.algorithms.contains(&algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Found::Key(key),
            _ => Found::OfAnotherKind,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }
}

impl Key {
    fn read(key: serde_json::Value, allowed: &[Algorithm]) -> Option<Self> {
        // Read apart: the crate knows no other algorithms than its own, and a set may hold what it likes.
        let named = match key.get("alg") {
            Some(name) => Some(Algorithm::named(name.as_str()?)?),
            None => None,
        };
        let jwk: Jwk = serde_json::from_value(key).ok()?;
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        if !signs || common.key_id.as_ref().is_some_and(|id| id.len() > LONGEST_ID) {
            return None;
        }
        let suits = |algorithm: Algorithm| match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => algorithm.is_rsa(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => algorithm == Algorithm::ES256,
                EllipticCurve::P384 => algorithm == Algorithm::ES384,
                _ => false,
            },
            AlgorithmParameters::OctetKeyPair(key) => {
                key.curve == EllipticCurve::Ed25519 && algorithm == Algorithm::EdDSA
            }
            _ => false,
        };
        let algorithms: Vec<_> = allowed
            .iter()
            .copied()
            .filter(|algorithm| suits(*algorithm) && named.is_none_or(|named| named == *algorithm))
            .collect();
        if algorithms.is_empty() {
            return None;
        }
        let id = common.key_id.as_deref().map(Into::into);
        Some(Self { id, algorithms, key: DecodingKey::from_jwk(&jwk).ok()? })
    }

    /// Whether it signed `message`. `signature` is base64url without padding.
    pub fn signed(&self, message: &[u8], signature: &str, algorithm: Algorithm) -> bool {
        let Some(theirs) = algorithm.verified_as().filter(|_| self.algorithms.contains(&algorithm)) else {
            return false;
        };
        jsonwebtoken::crypto::verify(signature, message, &self.key, theirs).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ed(fields: Value) -> Value {
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        for (name, value) in fields.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn read(keys: Value, allowed: &[Algorithm]) -> Result<KeySet, String> {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes(), allowed)
    }

    #[test]
    fn what_can_not_be_used_is_left_out() {
        let set = read(
            json!([
                {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"},
                {"kty": "oct", "k": "c2VjcmV0", "kid": "secret too"},
                ed(json!({"kid": "encrypts", "use": "enc"})),
                ed(json!({"kid": "signs elsewhere", "key_ops": ["sign"]})),
                ed(json!({"kid": "lies", "alg": "RS256"})),
                ed(json!({"kid": "none", "alg": "none"})),
                ed(json!({"kid": "a".repeat(257)})),
                {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA", "kid": "too long"},
                {"kty": "what"}, 7, null,
                ed(json!({"kid": "good", "use": "sig", "key_ops": ["verify"], "alg": "EdDSA", "x5t": "extra"})),
            ]),
            &Algorithm::all(),
        );
        let ids: Vec<_> = set.unwrap().iter().map(|key| key.id.as_deref().unwrap().to_owned()).collect();
        assert_eq!(ids, ["good"]);
    }

    #[test]
    fn a_set_without_a_key_of_use_is_none() {
        assert!(read(json!([]), &Algorithm::all()).is_err());
        assert!(read(json!([ed(json!({}))]), &[Algorithm::RS256]).is_err());
        for text in ["", "<html>", "{}", "[]", r#"{"keys": {}}"#] {
            assert!(KeySet::parse(text.as_bytes(), &Algorithm::all()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_that_names_no_key_is_believed_where_only_one_comes_into_question() {
        let one = read(json!([ed(json!({"kid": "a"}))]), &Algorithm::all()).unwrap();
        assert!(matches!(one.find(None, Algorithm::EdDSA), Found::Key(_)));
        assert!(matches!(one.find(None, Algorithm::RS256), Found::OfAnotherKind));
        assert!(matches!(one.find(Some("a"), Algorithm::ES256), Found::OfAnotherKind));
        assert!(matches!(one.find(Some("../a"), Algorithm::EdDSA), Found::Unknown));
        let two = read(json!([ed(json!({"kid": "a"})), ed(json!({"kid": "b"}))]), &Algorithm::all()).unwrap();
        assert!(matches!(two.find(None, Algorithm::EdDSA), Found::OfAnotherKind));
        assert!(matches!(two.find(Some("b"), Algorithm::EdDSA), Found::Key(_)));
    }
}
