//! Text messages over Twilio's HTTP API (<https://www.twilio.com/docs/messaging/api/message-resource>). It has no way to
//! recognise a repeated request.

use anyhow::anyhow;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use crate::{
    channel::{
        Outcome,
        http::{Answer, Endpoint, Http, is_passing},
    },
    plan::Message,
    rules::Sms,
};

pub(super) struct Twilio {
    http: Http,
    endpoint: Endpoint,
    /// Marked sensitive: it is not printed.
    authorization: HeaderValue,
    from: String,
}

/// What is read of Twilio's answers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    sid: Option<String>,
    code: Option<i64>,
    message: Option<String>,
}

impl Twilio {
    pub fn new(settings: &Sms, http: Http) -> anyhow::Result<Self> {
        let base = Endpoint::parse(&settings.base_url, settings.plain_http);
        let path = format!("/2010-04-01/Accounts/{}/Messages.json", settings.account);
        let endpoint = base.and_then(|base| base.below(&path)).map_err(|error| anyhow!("channels.sms: {error}"))?;
        let credentials = STANDARD.encode(format!("{}:{}", settings.account, settings.token.expose_secret()));
        let mut authorization = HeaderValue::try_from(format!("Basic {credentials}"))?;
        authorization.set_sensitive(true);
        Ok(Self { http, endpoint, authorization, from: settings.from.clone() })
    }

    pub async fn send(&self, number: &str, message: &Message) -> Outcome {
        let form = [("From", self.from.as_str()), ("To", number), ("Body", &message.text)];
        let form: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        match self.http.post(&self.endpoint, headers, Bytes::from(form.join("&"))).await {
            Ok(answer) => outcome(&answer),
            Err(reason) => Outcome::Retry { reason, after: None },
        }
    }
}

fn outcome(answer: &Answer) -> Outcome {
    let said: Said = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status.is_success() {
        return Outcome::Sent { reference: said.sid };
    }
    let reason = match (said.code, said.message) {
        (Some(code), Some(message)) => format!("{}: {code} {message}", answer.status),
        _ => answer.status.to_string(),
    };
    // Wrong credentials say nothing of the message: the operator mends them, and it goes out.
    if is_passing(answer.status) || answer.status == StatusCode::UNAUTHORIZED {
        Outcome::Retry { reason, after: answer.retry_after }
    } else {
        Outcome::Refused { reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answered(status: u16, body: &'static str, retry_after: Option<Duration>) -> Outcome {
        let status = StatusCode::from_u16(status).unwrap();
        outcome(&Answer { status, retry_after, body: Bytes::from_static(body.as_bytes()) })
    }

    #[test]
    fn an_answer_says_what_to_do() {
        assert_eq!(answered(201, r#"{"sid":"SM1"}"#, None), Outcome::Sent { reference: Some("SM1".to_owned()) });
        assert_eq!(answered(200, "<html>", None), Outcome::Sent { reference: None });
        let refused = answered(400, r#"{"code":21211,"message":"Invalid 'To'"}"#, None);
        assert_eq!(refused, Outcome::Refused { reason: "400 Bad Request: 21211 Invalid 'To'".to_owned() });
        let after = Some(Duration::from_secs(7));
        assert!(matches!(answered(429, "", after), Outcome::Retry { after: Some(_), .. }));
        for passing in [401, 408, 500, 503] {
            assert!(matches!(answered(passing, "", None), Outcome::Retry { .. }), "{passing}");
        }
        for lasting in [302, 403, 404] {
            assert!(matches!(answered(lasting, "", None), Outcome::Refused { .. }), "{lasting}");
        }
    }
}
