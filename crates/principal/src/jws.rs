//! The compact serialization of RFC 7515 with the one algorithm we use, Ed25519 (RFC 8037): no other can be asked for, so
//! none has to be refused by a list.

use aws_lc_rs::{
    digest,
    signature::{ED25519, Ed25519KeyPair, VerificationAlgorithm as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const ALGORITHM: &str = "EdDSA";

/// What a token of ours may at most be long; a longer one is refused unread.
const MAX_LENGTH: usize = 16 * 1024;

/// The claims of a principal token (RFC 7519); times are seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub iss: String,
    pub sub: String,
    pub iat: i64,
    pub exp: i64,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub claims: std::collections::BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    alg: String,
    pub kid: String,
    /// Extensions that must be understood (RFC 7515 §4.1.11): we understand none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

/// A token taken apart; nothing of it is believed until [`Parts::verified_by`] says so.
pub(crate) struct Parts<'a> {
    pub header: Header,
    pub claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

/// A public key and its id, which is its thumbprint.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey(pub [u8; 32]);

impl Header {
    /// The encoded header of the tokens that the key `kid` signs.
    pub fn encode(kid: String) -> String {
        encode(&Self { alg: ALGORITHM.to_owned(), kid, crit: None })
    }
}

impl Claims {
    /// Signs them. `header` is what [`Header::encode`] made.
    pub fn sign(&self, header: &str, key: &Ed25519KeyPair) -> String {
        let mut token = format!("{header}.{}", encode(self));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(token.as_bytes()));
        token.push('.');
        token.push_str(&signature);
        token
    }
}

impl<'a> Parts<'a> {
    /// None for what is not a JWS of ours in form.
    pub fn parse(token: &'a str) -> Option<Self> {
        if token.len() > MAX_LENGTH {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = decode(header)?;
        if header.alg != ALGORITHM || header.crit.is_some() {
            return None;
        }
        Some(Self { header, claims: decode(claims)?, signed, signature: URL_SAFE_NO_PAD.decode(signature).ok()? })
    }

    pub fn verified_by(&self, key: &PublicKey) -> bool {
        ED25519.verify_sig(&key.0, self.signed.as_bytes(), &self.signature).is_ok()
    }
}

impl PublicKey {
    /// The thumbprint of RFC 7638: members in lexical order, no white space.
    pub fn id(&self) -> String {
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(self.0));
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, jwk.as_bytes()))
    }

    /// As a JSON Web Key (RFC 7517).
    pub fn jwk(&self) -> serde_json::Value {
        serde_json::json!({
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": ALGORITHM,
            "kid": self.id(),
            "x": URL_SAFE_NO_PAD.encode(self.0),
        })
    }

    /// None for a key of another kind, which a key set may well hold.
    pub fn from_jwk(jwk: &serde_json::Value) -> Option<(String, Self)> {
        if jwk.get("kty")? != "OKP" || jwk.get("crv")? != "Ed25519" {
            return None;
        }
        let key = URL_SAFE_NO_PAD.decode(jwk.get("x")?.as_str()?).ok()?;
        Some((jwk.get("kid")?.as_str()?.to_owned(), Self(key.try_into().ok()?)))
    }
}

#[expect(clippy::expect_used, reason = "strings, numbers and maps keyed by strings always have a JSON form")]
fn encode(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).expect("a JSON form"))
}

fn decode<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037_appendix_a() {
        let key = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = PublicKey(key.try_into().unwrap());
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_key_survives_its_json_form() {
        let key = PublicKey([9; 32]);
        let (kid, read) = PublicKey::from_jwk(&key.jwk()).unwrap();
        assert_eq!((kid, read.0), (key.id(), key.0));
    }

    #[test]
    fn keys_of_other_kinds_are_left_out() {
        assert!(
            PublicKey::from_jwk(&serde_json::json!({"kty": "RSA", "kid": "1", "n": "AQAB", "e": "AQAB"})).is_none()
        );
        assert!(
            PublicKey::from_jwk(&serde_json::json!({"kty": "OKP", "crv": "X25519", "kid": "1", "x": "AA"})).is_none()
        );
    }
}
