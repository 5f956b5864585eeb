//! JSON by POST, signed as Standard Webhooks says (<https://www.standardwebhooks.com>) where there is a secret. The header
//! `webhook-id` is the same in every attempt, so that the receiver can leave out what it has.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use time::OffsetDateTime;

use crate::channel::{
    Letter, Outcome,
    http::{Endpoint, Http, is_passing},
};

const PREFIX: &str = "whsec_";

pub(super) struct Webhook {
    http: Http,
}

/// What signs requests.
#[derive(Clone)]
pub(crate) struct Secret(Arc<hmac::Key>);

impl Secret {
    /// # Errors
    /// If it isn't `whsec_` and 24 to 64 bytes in Base64; the error doesn't repeat it.
    pub fn read(secret: &SecretString) -> Result<Self, String> {
        let bytes = secret.expose_secret().strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        match bytes {
            Some(bytes) if (24..=64).contains(&bytes.len()) => {
                Ok(Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes))))
            }
            _ => Err("must be whsec_ and 24 to 64 bytes in Base64".to_owned()),
        }
    }

    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Webhook {
    pub fn new(http: Http) -> Self {
        Self { http }
    }

    pub async fn send(&self, endpoint: &Endpoint, secret: Option<&Secret>, letter: &Letter) -> Outcome {
        let body = json!({
            "type": "notification",
            "rule": letter.rule,
            "recipient": letter.recipient.name,
            "subject": letter.message.subject,
            "text": letter.message.text,
            "about": letter.about,
        })
        .to_string();
        // A signature is good for minutes, so that each attempt has its own time.
        let timestamp = OffsetDateTime::now_utc().unix_timestamp();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let signature = secret.map(|secret| secret.sign(&letter.id, timestamp, &body));
        let said = [
            ("webhook-id", Some(letter.id.clone())),
            ("webhook-timestamp", Some(timestamp.to_string())),
            ("webhook-signature", signature),
        ];
        for (name, value) in said {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        if let Some(context) = telemetry::current() {
            telemetry::inject(&context, &mut headers);
        }
        match self.http.post(endpoint, headers, Bytes::from(body)).await {
            Ok(answer) if answer.status.is_success() => Outcome::Sent { reference: None },
            Ok(answer) if is_passing(answer.status) => {
                Outcome::Retry { reason: answer.status.to_string(), after: answer.retry_after }
            }
            Ok(answer) => Outcome::Refused { reason: answer.status.to_string() },
            Err(reason) => Outcome::Retry { reason, after: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secret = Secret::read(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_its_form_and_is_not_printed() {
        for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!"] {
            assert!(Secret::read(&wrong.into()).is_err(), "{wrong}");
        }
    }
}
