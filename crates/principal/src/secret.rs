//! The root secret, and the keys that derive from it.

use std::fmt;

use anyhow::Context as _;
use aws_lc_rs::{
    hkdf::{HKDF_SHA256, Salt},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

const LENGTH: usize = 32;

/// The one secret (32 bytes) that cookie, cursor and signing keys derive from (HKDF-SHA256, RFC 5869, a label each).
#[derive(Clone, PartialEq, Eq)]
pub struct RootSecret([u8; LENGTH]);

impl RootSecret {
    /// A new one, from the system's randomness.
    #[expect(clippy::expect_used, reason = "a system without randomness can keep no secret")]
    pub fn generate() -> Self {
        let mut secret = [0; LENGTH];
        rand::fill(&mut secret).expect("the system's randomness");
        Self(secret)
    }

    /// Reads base64url text as [`RootSecret::encode`] writes it; white space around it is left out.
    ///
    /// # Errors
    /// If it isn't base64url without padding, or not of 32 bytes. The error doesn't repeat the text.
    pub fn decode(text: &str) -> anyhow::Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok().context("the root secret is not base64url")?;
        let secret = <[u8; LENGTH]>::try_from(bytes).ok().context("the root secret is not 32 bytes long")?;
        Ok(Self(secret))
    }

    /// Base64url without padding: 43 characters.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The key for one purpose, which the label names.
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 refuses only outputs beyond 8160 bytes")]
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mut key = [0; 32];
        let secret = Salt::new(HKDF_SHA256, b"turnpike").extract(&self.0);
        secret
            .expand(&[label.as_bytes()], HKDF_SHA256)
            .and_then(|output| output.fill(&mut key))
            .expect("32 bytes of HKDF output");
        key
    }
}

impl fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_its_text_form() {
        let secret = RootSecret::generate();
        assert_eq!(RootSecret::decode(&format!(" {}\n", secret.encode())).unwrap(), secret);
    }

    #[test]
    fn text_of_another_length_or_alphabet_is_refused_without_being_repeated() {
        for text in ["", "c2hvcnQ", "not base64url!", &URL_SAFE_NO_PAD.encode([1; 33])] {
            let error = RootSecret::decode(text).unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn every_label_has_its_own_key_and_keeps_it() {
        let secret = RootSecret([7; LENGTH]);
        assert_eq!(secret.derive("cookie"), RootSecret([7; LENGTH]).derive("cookie"));
        assert_ne!(secret.derive("cookie"), secret.derive("cursor"));
        assert_ne!(secret.derive("cookie"), RootSecret([8; LENGTH]).derive("cookie"));
    }

    #[test]
    fn the_debug_form_hides_it() {
        let secret = RootSecret::generate();
        assert!(!format!("{secret:?}").contains(&secret.encode()));
    }
}
