//! A revocation as it travels on the bus: `AUTH/REVOKE` with `{"key": id}`, `{"session": id}`, `{"token": jti}` (and
//! `"issuer"`, if only that one's is meant) or `{"subject": "users/1", "before": time}`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use events::Envelope;
use serde::Deserialize;
use time::OffsetDateTime;

/// The longest name of anything, in bytes.
const LONGEST: usize = 1024;

/// What is good no longer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// By its id.
    Key(Arc<str>),
    Session([u8; 32]),
    /// By its id (`jti`): one issuer's, or that of any.
    Token {
        issuer: Option<Arc<str>>,
        id: Arc<str>,
    },
    /// Whatever speaks for it and is older than a moment.
    Subject(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub target: Target,
    /// What was given out before it counts.
    pub before: OffsetDateTime,
    /// When it was recorded.
    pub at: OffsetDateTime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    key: Option<String>,
    session: Option<String>,
    token: Option<String>,
    issuer: Option<String>,
    subject: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    before: Option<OffsetDateTime>,
}

impl Revocation {
    /// # Errors
    /// What is wrong with it.
    pub fn read(envelope: &Envelope) -> Result<Self, String> {
        let data = envelope.json().ok_or("it has no JSON")?;
        let data: Data = serde_json::from_value(data.clone()).map_err(|error| error.to_string())?;
        let at = envelope.recordedtime.unwrap_or(envelope.time);
        let named = [&data.key, &data.session, &data.token, &data.subject, &data.issuer];
        if named.into_iter().flatten().any(|name| name.is_empty() || name.len() > LONGEST) {
            return Err(format!("a name must have 1 to {LONGEST} bytes"));
        }
        if data.issuer.is_some() && data.token.is_none() {
            return Err("an issuer goes with a token".to_owned());
        }
        if data.before.is_some() && data.subject.is_none() {
            return Err("a moment goes with a subject".to_owned());
        }
        let before = data.before.unwrap_or(at);
        let target = match (data.key, data.session, data.token, data.subject) {
            (Some(key), None, None, None) => Target::Key(key.into()),
            (None, Some(session), None, None) => {
                let id = URL_SAFE_NO_PAD.decode(session).ok().and_then(|id| <[u8; 32]>::try_from(id).ok());
                Target::Session(id.ok_or("not the id of a session, as /sessions lists them")?)
            }
            (None, None, Some(token), None) => Target::Token { issuer: data.issuer.map(Into::into), id: token.into() },
            (None, None, None, Some(subject)) => Target::Subject(subject.into()),
            _ => return Err("it must name one of key, session, token and subject".to_owned()),
        };
        Ok(Self { target, before, at })
    }
}

#[cfg(test)]
mod tests {
    use events::Name;
    use serde_json::{Value, json};

    use super::*;

    fn read(data: Value) -> Result<Target, String> {
        let envelope = Envelope::new("/test", Name::new("AUTH").unwrap(), Name::new("REVOKE").unwrap()).data(data);
        Revocation::read(&envelope).map(|revocation| revocation.target)
    }

    #[test]
    fn an_event_names_one_thing() {
        assert_eq!(read(json!({"key": "a"})), Ok(Target::Key("a".into())));
        let id = URL_SAFE_NO_PAD.encode([7; 32]);
        assert_eq!(read(json!({"session": id})), Ok(Target::Session([7; 32])));
        assert_eq!(read(json!({"token": "j"})), Ok(Target::Token { issuer: None, id: "j".into() }));
        assert_eq!(
            read(json!({"token": "j", "issuer": "i"})),
            Ok(Target::Token { issuer: Some("i".into()), id: "j".into() })
        );
        let subject = json!({"subject": "users/1", "before": "2026-11-21T08:00:00Z"});
        assert_eq!(read(subject), Ok(Target::Subject("users/1".into())));
        for wrong in [
            json!({}),
            json!([]),
            json!({"key": "a", "token": "b"}),
            json!({"key": ""}),
            json!({"session": "short"}),
            json!({"issuer": "i"}),
            json!({"key": "a", "before": "2026-11-21T08:00:00Z"}),
            json!({"subject": "a", "before": "yesterday"}),
            json!({"keys": "a"}),
            json!({"token": "a".repeat(1025)}),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
