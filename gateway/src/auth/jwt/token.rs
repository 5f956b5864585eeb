//! A token taken apart (RFC 7519 in the compact form of RFC 7515). Strict: what it is unsure of it refuses. Nothing in the
//! header is followed: not `jku`, not `jwk`, not `x5u`; a key's name is only ever compared.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{Algorithm, Rejected, key_set::LONGEST_ID};

/// The longest token, in bytes.
pub const LONGEST: usize = 8 * 1024;

pub struct Token<'a> {
    pub algorithm: Algorithm,
    /// The key's name.
    pub key: Option<String>,
    /// What is signed.
    pub message: &'a [u8],
    /// base64url without padding.
    pub signature: &'a str,
    pub claims: Claims,
}

/// Unverified until the signature is.
#[derive(Debug)]
pub struct Claims(Map<String, Value>);

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Present,
    #[serde(default)]
    b64: Present,
}

/// Whether a member is there, even as null.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

impl<'a> Token<'a> {
    pub fn parse(token: &'a str) -> Result<Self, Rejected> {
        const MALFORMED: Rejected = Rejected("the token is not well formed");
        if token.len() > LONGEST {
            return Err(Rejected("the token is too long"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(MALFORMED);
        };
        let message = &token.as_bytes()[..header.len() + 1 + payload.len()];
        let header: Header = read(header).ok_or(MALFORMED)?;
        if header.crit.0 || header.b64.0 {
            return Err(Rejected("the token asks for an extension that is not known here"));
        }
        if header.typ.is_some_and(|typ| !is_access_token(&typ)) {
            return Err(Rejected("the token is of another type"));
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Rejected("the token's algorithm is not accepted"))?;
        if header.kid.as_ref().is_some_and(|id| id.len() > LONGEST_ID) {
            return Err(Rejected("the token is signed with a key that is not known"));
        }
        let claims = read(payload).ok_or(MALFORMED)?;
        Ok(Self { algorithm, key: header.kid, message, signature, claims })
    }
}

/// So that what an issuer signs for another purpose (a log-out, a security event) is no log-in here (RFC 8725, section
/// 3.11).
fn is_access_token(typ: &str) -> bool {
    let lower = typ.to_ascii_lowercase();
    matches!(lower.strip_prefix("application/").unwrap_or(&lower), "jwt" | "at+jwt")
}

fn read<T: de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

impl Claims {
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Seconds since 1970, which may have a fraction.
    pub fn time(&self, name: &str) -> Result<Option<i64>, Rejected> {
        /// The end of the year 9999.
        const LAST: f64 = 253_402_300_799.0;
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64() {
            // Between these bounds nothing is cut off but the fraction.
            #[expect(clippy::cast_possible_truncation, reason = "checked against its bounds")]
            Some(seconds) if (0.0..=LAST).contains(&seconds) => Ok(Some(seconds as i64)),
            _ => Err(Rejected("a time in the token is not one")),
        }
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique;

        impl<'de> Visitor<'de> for Unique {
            type Value = Claims;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = members.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        // Whoever else reads it may take the other one.
                        return Err(de::Error::custom("a claim is there twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }

        deserializer.deserialize_map(Unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    fn reason(token: &str) -> &'static str {
        Token::parse(token).err().map_or("", |rejected| rejected.0)
    }

    #[test]
    fn a_token_is_taken_apart() {
        let text = token(r#"{"alg":"ES256","kid":"a","typ":"at+JWT","jku":"https://evil.example"}"#, r#"{"sub":"1"}"#);
        let token = Token::parse(&text).unwrap_or_else(|rejected| panic!("{}", rejected.0));
        assert_eq!((token.algorithm, token.key.as_deref()), (Algorithm::ES256, Some("a")));
        assert_eq!((token.claims.text("sub"), token.signature), (Some("1"), "c2ln"));
        assert_eq!(token.message, text.rsplit_once('.').unwrap().0.as_bytes());
    }

    #[test]
    fn what_is_in_doubt_is_refused() {
        for alg in ["none", "None", "HS256", "es256", "", "ES512"] {
            let text = token(&format!(r#"{{"alg":"{alg}"}}"#), "{}");
            assert_eq!(reason(&text), "the token's algorithm is not accepted", "{alg}");
        }
        for header in [
            r#"{"alg":"ES256","crit":["exp"]}"#,
            r#"{"alg":"ES256","crit":[]}"#,
            r#"{"alg":"ES256","crit":null}"#,
            r#"{"alg":"ES256","b64":false}"#,
        ] {
            assert_eq!(reason(&token(header, "{}")), "the token asks for an extension that is not known here");
        }
        for typ in ["logout+jwt", "dpop+jwt", "JWE", ""] {
            assert_eq!(
                reason(&token(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#), "{}")),
                "the token is of another type"
            );
        }
        let good = r#"{"alg":"ES256"}"#;
        let malformed = [
            String::new(),
            "...".to_owned(),
            token(good, "{}") + ".x",
            token(good, "{}").replace("c2ln", "") + "=.",
            token(good, r#"{"exp":1,"exp":2}"#),
            token(good, "[]"),
            token(good, "{} "),
            token(r#"{"alg":"ES256","alg":"none"}"#, "{}"),
            token(r#"{"alg":7}"#, "{}"),
            token(r#"{"alg":"ES256","kid":["a"]}"#, "{}"),
            token(good, "{}").replacen('e', "é", 1),
            token(good, "{}").replace('.', "=."),
        ];
        for text in malformed.iter().filter(|text| **text != token(good, "{} ")) {
            assert_eq!(reason(text), "the token is not well formed", "{text}");
        }
        assert_eq!(reason(&"a".repeat(LONGEST + 1)), "the token is too long");
    }

    #[test]
    fn a_time_is_a_number_that_makes_sense() {
        let claims: Claims = serde_json::from_str(r#"{"a":1.9,"b":"1","c":-1,"d":1e300,"e":null}"#).unwrap();
        assert_eq!(claims.time("a").ok(), Some(Some(1)));
        assert_eq!(claims.time("e").ok(), Some(None));
        for name in ["b", "c", "d"] {
            assert!(claims.time(name).is_err(), "{name}");
        }
    }
}
