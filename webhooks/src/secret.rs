//! What requests are signed with, as Standard Webhooks says: `v1` is HMAC-SHA256 with a secret that both sides have, `v1a`
//! is Ed25519, of which the receiver has the public half alone.

use std::fmt;

use aws_lc_rs::{
    hmac, rand,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::Error;

const SECRET: &str = "whsec_";
const PUBLIC: &str = "whpk_";
/// Of a secret, and of a private key's seed.
const BYTES: usize = 32;

/// How requests to an endpoint are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signature {
    /// HMAC-SHA256.
    #[default]
    V1,
    /// Ed25519.
    V1a,
}

impl Signature {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1a => "v1a",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::V1, Self::V1a].into_iter().find(|signature| signature.as_str() == text)
    }
}

/// A key that signs.
pub(crate) enum Secret {
    Shared { bytes: Vec<u8>, key: Box<hmac::Key> },
    Pair { seed: Vec<u8>, pair: Box<Ed25519KeyPair> },
}

impl Secret {
    /// A new one, from the system's randomness.
    pub fn generate(signature: Signature) -> Result<Self, Error> {
        let mut bytes = vec![0; BYTES];
        rand::fill(&mut bytes).map_err(|_| Error::Stored("the system has no randomness".to_owned()))?;
        Self::of(signature, bytes)
    }

    /// From what was stored of it.
    pub fn of(signature: Signature, bytes: Vec<u8>) -> Result<Self, Error> {
        Ok(match signature {
            Signature::V1 => Self::Shared { key: Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes)), bytes },
            Signature::V1a => {
                let pair = Ed25519KeyPair::from_seed_unchecked(&bytes);
                let pair = pair.map_err(|_| Error::Stored("a webhook's key is none".to_owned()))?;
                Self::Pair { seed: bytes, pair: Box::new(pair) }
            }
        })
    }

    /// A secret that the receiver has already.
    ///
    /// # Errors
    /// If it isn't `whsec_` and 24 to 64 bytes in Base64; the error doesn't repeat it.
    pub fn read(text: &SecretString) -> Result<Self, Error> {
        let bytes = text.expose_secret().strip_prefix(SECRET).and_then(|text| STANDARD.decode(text).ok());
        match bytes.filter(|bytes| (24..=64).contains(&bytes.len())) {
            Some(bytes) => Self::of(Signature::V1, bytes),
            None => Err(Error::Invalid("secret: must be whsec_ and 24 to 64 bytes in Base64".to_owned())),
        }
    }

    /// What is stored of it.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared { bytes, .. } => bytes,
            Self::Pair { seed, .. } => seed,
        }
    }

    /// What the receiver verifies with: `whsec_…`, which is secret, or `whpk_…`, which isn't.
    pub fn shown(&self) -> String {
        match self {
            Self::Shared { bytes, .. } => format!("{SECRET}{}", STANDARD.encode(bytes)),
            Self::Pair { pair, .. } => format!("{PUBLIC}{}", STANDARD.encode(pair.public_key())),
        }
    }

    /// One signature of a request, as it stands in the header.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        match self {
            Self::Shared { key, .. } => format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed))),
            Self::Pair { pair, .. } => format!("v1a,{}", STANDARD.encode(pair.sign(&signed))),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    /// The example of the specification.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = Secret::read(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(secret.shown(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    }

    #[test]
    fn an_asymmetric_signature_is_verified_by_what_is_shown() {
        let secret = Secret::generate(Signature::V1a).unwrap();
        let again = Secret::of(Signature::V1a, secret.bytes().to_vec()).unwrap();
        let signature = again.sign("event1", 1_614_265_330, b"{}");
        let shown = secret.shown();
        let public = STANDARD.decode(shown.strip_prefix(PUBLIC).unwrap()).unwrap();
        let bytes = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, public);
        key.verify(b"event1.1614265330.{}", &bytes).unwrap();
        assert!(key.verify(b"event1.1614265331.{}", &bytes).is_err());
    }

    #[test]
    fn a_secret_has_its_form_and_is_not_printed() {
        for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!"] {
            assert!(Secret::read(&wrong.into()).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", Secret::generate(Signature::V1).unwrap()), "Secret(…)");
    }
}
