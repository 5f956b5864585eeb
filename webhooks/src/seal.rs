//! Secrets at rest: sealed by a key that derives from the root secret (AES-256-GCM, RFC 5116), for one endpoint and one use
//! each, so that a text can't be moved to another row. Without a root secret they are stored as they are, and say so.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use principal::RootSecret;

use crate::Error;

const SEALED: &str = "sealed1:";
const PLAIN: &str = "plain:";
const LABEL: &str = "webhook secrets";

pub(crate) struct Seal(Option<LessSafeKey>);

impl Seal {
    /// None: nothing is sealed.
    pub fn new(root: Option<&RootSecret>) -> Result<Self, Error> {
        let key = |root: &RootSecret| UnboundKey::new(&AES_256_GCM, &root.derive(LABEL)).map(LessSafeKey::new);
        Ok(Self(root.map(key).transpose().map_err(|_| broken("a key can't be made"))?))
    }

    /// The text that is stored. `of`: what it is for.
    pub fn close(&self, of: &str, secret: &[u8]) -> Result<String, Error> {
        let Some(key) = &self.0 else { return Ok(format!("{PLAIN}{}", STANDARD.encode(secret))) };
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| broken("the system has no randomness"))?;
        let mut sealed = secret.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(of.as_bytes()), &mut sealed)
            .map_err(|_| broken("a secret can't be sealed"))?;
        Ok(format!("{SEALED}{}", STANDARD.encode([&nonce[..], &sealed].concat())))
    }

    /// What was stored.
    pub fn open(&self, of: &str, stored: &str) -> Result<Vec<u8>, Error> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| broken("a secret isn't Base64"));
        if let Some(text) = stored.strip_prefix(PLAIN) {
            return decode(text);
        }
        let text = stored.strip_prefix(SEALED).ok_or_else(|| broken("a secret has no form that is known"))?;
        let key = self.0.as_ref().ok_or_else(|| broken("a secret is sealed, and there is no root secret"))?;
        let bytes = decode(text)?;
        let other = || broken("a secret was sealed by another root secret, or for another webhook");
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or_else(other)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| other())?;
        let mut opened = sealed.to_vec();
        let length = key.open_in_place(nonce, Aad::from(of.as_bytes()), &mut opened).map_err(|_| other())?.len();
        opened.truncate(length);
        Ok(opened)
    }
}

fn broken(reason: &str) -> Error {
    Error::Stored(format!("webhooks: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_again_for_the_same_use_alone() {
        let seal = Seal::new(Some(&RootSecret::generate())).unwrap();
        let stored = seal.close("wh_1 secret", b"hidden").unwrap();
        assert!(stored.starts_with(SEALED) && !stored.contains(&STANDARD.encode("hidden")));
        assert_ne!(seal.close("wh_1 secret", b"hidden").unwrap(), stored, "never the same twice");
        assert_eq!(seal.open("wh_1 secret", &stored).unwrap(), b"hidden");
        let other = Seal::new(Some(&RootSecret::generate())).unwrap();
        for (seal, of) in [(&seal, "wh_2 secret"), (&other, "wh_1 secret"), (&Seal::new(None).unwrap(), "wh_1 secret")]
        {
            assert!(seal.open(of, &stored).is_err(), "{of}");
        }
        for broken in ["", "sealed1:", "sealed1:AAAA", "sealed1:!", "hidden"] {
            assert!(seal.open("wh_1 secret", broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn without_a_root_secret_it_is_stored_as_it_is_and_read_after_there_is_one() {
        let stored = Seal::new(None).unwrap().close("wh_1 secret", b"hidden").unwrap();
        assert_eq!(Seal::new(Some(&RootSecret::generate())).unwrap().open("wh_1 secret", &stored).unwrap(), b"hidden");
    }
}
