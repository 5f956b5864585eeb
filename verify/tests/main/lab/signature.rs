//! The signatures of Standard Webhooks, verified. Written of its specification alone
//! (<https://github.com/standard-webhooks/standard-webhooks>), and of nothing that signs.

use aws_lc_rs::{
    hmac,
    signature::{ED25519, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What an endpoint was shown when it was registered.
pub(crate) enum Key {
    Shared(Box<hmac::Key>),
    Public(UnparsedPublicKey<Vec<u8>>),
}

impl Key {
    pub(crate) fn read(shown: &str) -> Self {
        let (kind, text) = shown.split_once('_').expect("a kind of key");
        let bytes = STANDARD.decode(text).expect("a key in Base64");
        match kind {
            "whsec" => Self::Shared(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
            "whpk" => Self::Public(UnparsedPublicKey::new(&ED25519, bytes)),
            other => panic!("no kind of key: {other}"),
        }
    }

    /// Whether one of a request's signatures is by this key.
    pub(crate) fn has_signed(&self, signatures: &str, (id, timestamp, body): (&str, &str, &[u8])) -> bool {
        let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        signatures.split(' ').filter_map(|signature| signature.split_once(',')).any(|(version, text)| {
            let Ok(bytes) = STANDARD.decode(text) else { return false };
            match (version, self) {
                ("v1", Self::Shared(key)) => hmac::verify(key, &content, &bytes).is_ok(),
                ("v1a", Self::Public(key)) => key.verify(&content, &bytes).is_ok(),
                _ => false,
            }
        })
    }
}

/// The secret of the specification's example, which its libraries are tested by.
pub(crate) const OFFICIAL: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn the_official_vector_is_believed_and_nothing_beside_it() {
    let key = Key::read(OFFICIAL);
    let (id, timestamp, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
    let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    assert!(key.has_signed(signature, (id, timestamp, body)));
    assert!(key.has_signed(&format!("v1,AAAA v2,x {signature}"), (id, timestamp, body)));
    assert!(!key.has_signed(signature, (id, "1614265331", body)));
    assert!(!key.has_signed(signature, ("msg_p5jXN8AQM9LWM0D4loKWxJel", timestamp, body)));
    assert!(!key.has_signed(signature, (id, timestamp, br#"{"test": 2432232315}"#)));
    assert!(!key.has_signed(&signature.replace("v1", "v1a"), (id, timestamp, body)));
    assert!(!Key::read("whsec_c2VjcmV0c2VjcmV0c2VjcmV0").has_signed(signature, (id, timestamp, body)));
}
