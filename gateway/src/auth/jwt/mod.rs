//! Tokens of others (JWT, RFC 7519): believed where an issuer of the configuration signed them, for us, until they end.
//!
//! A token that was verified is at hand for ten minutes at most, as long as its issuer's keys stay the same; finding it
//! there costs one digest and one look-up. Who was revoked is looked after by `revocation`, for what is at hand too.

mod algorithm;
mod fetch;
mod key_set;
mod rules;
mod source;
mod token;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use algorithm::Algorithm;
pub use fetch::{Fetcher, authorities, check_url};
pub use key_set::KeySet;
pub use source::Source;

use self::{key_set::Found, source::Standing, token::Token};
use super::{Credential, Origin, keys::digest};
use crate::{config::Jwt, metrics::METRICS, recent::Recent};

/// The most that a verified token is at hand.
const AT_HAND: Duration = Duration::from_secs(600);

/// Why a token is not believed, for its bearer: no quotes, no backslashes (RFC 6750, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected(pub &'static str);

/// Why there is no principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Rejected(Rejected),
    /// The issuer's keys can't be had.
    NoKeys,
}

impl From<Rejected> for Refused {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

/// What is believed, and what was.
pub struct Tokens {
    issuers: Vec<Arc<Issuer>>,
    verified: Arc<Recent<[u8; 32], Verified>>,
}

/// Whose tokens are believed, and how.
pub struct Issuer {
    pub rules: Jwt,
    /// The file that it names, of keys or of certificates.
    pub document: Option<Vec<u8>>,
    pub source: Arc<Source>,
    /// Its keys are kept fresh as long as this lives.
    stop: CancellationToken,
    _ends: DropGuard,
}

struct Verified {
    credential: Arc<Credential>,
    until: SystemTime,
    source: Arc<Source>,
    /// Of the keys.
    version: u64,
}

/// How far a look at a token got.
pub enum Look {
    Known(Arc<Credential>),
    /// It needs a key that may come.
    Wait(Wait),
}

pub struct Wait {
    rounds: watch::Receiver<u64>,
    first: bool,
}

impl Wait {
    /// Until there is something new to be seen.
    pub async fn over(self) {
        Source::wait(self.rounds, self.first).await;
    }
}

impl Issuer {
    pub fn new(rules: Jwt, document: Option<Vec<u8>>, source: Source) -> Self {
        let stop = CancellationToken::new();
        Self { rules, document, source: Arc::new(source), stop: stop.clone(), _ends: stop.drop_guard() }
    }
}

impl Tokens {
    /// `capacity`: how many verified tokens are at hand. Those of `previous` stay if no issuer is another than before.
    pub fn new(issuers: Vec<Arc<Issuer>>, capacity: usize, previous: Option<&Self>) -> Self {
        let same = |previous: &&Self| {
            previous.issuers.len() == issuers.len()
                && previous.issuers.iter().zip(&issuers).all(|(old, new)| Arc::ptr_eq(old, new))
        };
        let verified = match previous.filter(same) {
            Some(previous) => Arc::clone(&previous.verified),
            None => Arc::new(Recent::new(capacity)),
        };
        Self { issuers, verified }
    }

    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    pub fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// How many verified tokens are at hand.
    pub fn at_hand(&self) -> usize {
        self.verified.len()
    }

    /// Begins to keep keys fresh, of issuers that `previous` doesn't have.
    pub fn start(&self, previous: Option<&Self>) {
        let runs = |issuer: &Arc<Issuer>| {
            previous.is_some_and(|previous| previous.issuers.iter().any(|other| Arc::ptr_eq(other, issuer)))
        };
        for issuer in self.issuers.iter().filter(|issuer| !runs(issuer)) {
            let (source, allowed) = (Arc::clone(&issuer.source), issuer.rules.algorithms.clone());
            tokio::spawn(source.run(allowed, issuer.stop.clone()));
        }
    }

    /// Whose token it is. `last`: whoever asks has waited, and won't again.
    pub fn look(&self, token: &str, now: SystemTime, last: bool) -> Result<Look, Refused> {
        let name = digest(token.as_bytes());
        let known = self.verified.get(&name, |known| {
            (known.until > now && known.version == known.source.version()).then(|| Arc::clone(&known.credential))
        });
        if let Some(Some(credential)) = known {
            return Ok(Look::Known(credential));
        }
        let look = self.verify(name, token, now, last);
        match &look {
            Ok(Look::Known(_)) => METRICS.token("verified"),
            Ok(Look::Wait(_)) => METRICS.token("waited"),
            Err(Refused::Rejected(_)) => METRICS.token("rejected"),
            Err(Refused::NoKeys) => METRICS.token("no_keys"),
        }
        look
    }

    fn verify(&self, name: [u8; 32], token: &str, now: SystemTime, last: bool) -> Result<Look, Refused> {
        const STRANGE: Refused = Refused::Rejected(Rejected("the token is signed with a key that is not known"));
        let token = Token::parse(token)?;
        let issuer = token.claims.text("iss");
        let issuer = self.issuers.iter().find(|known| Some(known.rules.issuer.as_str()) == issuer);
        let issuer = issuer.ok_or(Rejected("the token is of an issuer that is not known"))?;
        if !issuer.rules.algorithms.contains(&token.algorithm) {
            return Err(Rejected("the token's algorithm is not accepted").into());
        }
        let source = &issuer.source;
        let held = match source.standing() {
            Standing::Good(held) => held,
            Standing::Expected if !last => return Ok(Look::Wait(Wait { rounds: source.first(), first: true })),
            Standing::Expected | Standing::Missing => return Err(Refused::NoKeys),
        };
        let believed = rules::judge(&token.claims, &issuer.rules, seconds(now))?;
        let key = match held.keys.find(token.key.as_deref(), token.algorithm) {
            Found::Key(key) => key,
            Found::OfAnotherKind => return Err(Rejected("the token's key is not for its algorithm").into()),
            Found::Unknown if last => {
                if let Some(key) = &token.key {
                    source.stranger(key);
                }
                return Err(STRANGE);
            }
            Found::Unknown => {
                let rounds = source.want(token.key.as_deref()).ok_or(STRANGE)?;
                return Ok(Look::Wait(Wait { rounds, first: false }));
            }
        };
        if !key.signed(token.message, token.signature, token.algorithm) {
            return Err(Rejected("the token's signature is wrong").into());
        }
        let until = OffsetDateTime::from_unix_timestamp(believed.expires).map_or(now, SystemTime::from);
        let until = (until + issuer.rules.leeway).min(now + AT_HAND);
        let origin = Origin::Token { issuer: issuer.rules.issuer.as_str().into(), id: believed.id.map(Into::into) };
        let since = believed.issued.and_then(|issued| OffsetDateTime::from_unix_timestamp(issued).ok());
        let credential = Arc::new(Credential::new(believed.principal, origin, since));
        let (source, version) = (Arc::clone(source), held.version);
        let known = Verified { credential: Arc::clone(&credential), until, source, version };
        self.verified.insert(name, known);
        Ok(Look::Known(credential))
    }
}

fn seconds(now: SystemTime) -> i64 {
    OffsetDateTime::from(now).unix_timestamp()
}

/// Runs the whole check of a token against one fixed issuer whose key signed nothing: whatever comes is refused. For fuzz
/// targets; panics if it is not.
#[expect(clippy::expect_used, clippy::panic, reason = "a fuzz target fails by panicking")]
pub fn fuzz(bytes: &[u8]) {
    use std::sync::LazyLock;

    static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
        // The key of RFC 8037, appendix A.
        let document = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a",
            "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let rules: Jwt = serde_saphyr::from_str("{issuer: i, audience: a, jwks_file: f}").expect("an issuer");
        let keys = KeySet::parse(document, &rules.algorithms).expect("a key set");
        let source = Source::fixed(&rules, keys, document);
        Tokens::new(vec![Arc::new(Issuer::new(rules, None, source))], 16, None)
    });
    if let Ok(text) = std::str::from_utf8(bytes)
        && TOKENS.look(text, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000), true).is_ok()
    {
        panic!("a token that nobody signed is believed");
    }
    _ = KeySet::parse(bytes, &Algorithm::all());
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    struct Signing {
        pair: Ed25519KeyPair,
        tokens: Tokens,
    }

    fn signing() -> Signing {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let document = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x}]}).to_string();
        let rules: Jwt = serde_saphyr::from_str("{issuer: i, audience: a, jwks_file: f}").unwrap();
        let keys = KeySet::parse(document.as_bytes(), &rules.algorithms).unwrap();
        let source = Source::fixed(&rules, keys, document.as_bytes());
        Signing { pair, tokens: Tokens::new(vec![Arc::new(Issuer::new(rules, None, source))], 64, None) }
    }

    impl Signing {
        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", part(header), part(claims));
            let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()));
            format!("{message}.{signature}")
        }

        fn good(&self) -> String {
            let now = NOW.as_secs();
            let claims = json!({"iss": "i", "aud": "a", "sub": "1", "iat": now, "exp": now + 60, "scope": "a b"});
            self.sign(&json!({"alg": "EdDSA", "kid": "a"}), &claims)
        }

        fn look(&self, token: &str) -> Result<Arc<Credential>, Refused> {
            match self.tokens.look(token, SystemTime::UNIX_EPOCH + NOW, true)? {
                Look::Known(credential) => Ok(credential),
                Look::Wait(_) => panic!("it was told not to wait"),
            }
        }
    }

    #[test]
    fn a_token_is_verified_once_and_then_at_hand_until_it_ends() {
        let signing = signing();
        let token = signing.good();
        let first = signing.look(&token).unwrap_or_else(|refused| panic!("{refused:?}"));
        let again = signing.look(&token).unwrap_or_else(|refused| panic!("{refused:?}"));
        assert!(Arc::ptr_eq(&first, &again));
        let after = |seconds| SystemTime::UNIX_EPOCH + NOW + Duration::from_secs(seconds);
        assert!(matches!(signing.tokens.look(&token, after(89), true), Ok(Look::Known(_))));
        let over = signing.tokens.look(&token, after(90), true).err();
        assert_eq!(over, Some(Refused::Rejected(Rejected("the token has expired"))));
    }

    /// Text that is more like a token than chance would have it.
    fn tokenlike() -> impl Strategy<Value = String> {
        let name = prop_oneof![Just("alg".to_owned()), Just("exp".to_owned()), Just("aud".to_owned()), "[a-z]{0,6}"];
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            any::<i64>().prop_map(Value::from),
            prop_oneof![Just("EdDSA".to_owned()), Just("none".to_owned()), Just("i".to_owned()), ".{0,12}"]
                .prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(3, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from));
        let object = prop::collection::vec((name, value), 0..8)
            .prop_map(|members| Value::Object(members.into_iter().collect()).to_string());
        let part = prop_oneof![3 => object.prop_map(|text| URL_SAFE_NO_PAD.encode(text)), 1 => "[A-Za-z0-9_=-]{0,40}"];
        prop::collection::vec(part, 0..5).prop_map(|parts| parts.join("."))
    }

    proptest! {
        #[test]
        fn an_altered_token_is_never_believed(at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f, how in 0_u8..3) {
            let signing = signing();
            let token = signing.good();
            let mut bytes = token.clone().into_bytes();
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => _ = bytes.remove(at),
            }
            let altered = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(signing.look(&altered).is_ok(), altered == token);
        }

        #[test]
        fn whatever_comes_is_refused_and_nothing_panics(text in tokenlike(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzz(text.as_bytes());
            fuzz(&bytes);
        }

        /// Whatever is signed is judged by its claims, and never panics.
        #[test]
        fn claims_of_any_kind_are_judged(time in any::<f64>(), text in ".{0,20}") {
            let signing = signing();
            let header = json!({"alg": "EdDSA", "kid": "a"});
            for claims in [
                json!({"iss": "i", "aud": "a", "sub": text, "exp": time}),
                json!({"iss": "i", "aud": [text], "sub": "1", "exp": NOW.as_secs() + 60, "nbf": time, "iat": time}),
                json!({"iss": "i", "aud": "a", "sub": "1", "exp": NOW.as_secs() + 60, "scope": [text, time]}),
            ] {
                if let Ok(credential) = signing.look(&signing.sign(&header, &claims)) {
                    prop_assert!(!credential.principal.subject.is_empty());
                }
            }
        }
    }
}
