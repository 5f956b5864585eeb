//! A request: the event as structured JSON (CloudEvents 1.0), signed as Standard Webhooks says.

use bytes::Bytes;
use events::Envelope;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use time::OffsetDateTime;

use crate::{Error, endpoint::Keys};

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
const USER_AGENT: HeaderValue = HeaderValue::from_static("turnpike-webhooks");
/// Where what was answered 202 is acknowledged.
pub(crate) const ACK_URL: HeaderName = HeaderName::from_static("turnpike-ack-url");

/// What an id may not hold in a header as it is: anything but visible ASCII, and what the encoding itself begins with.
const ID: &AsciiSet = &CONTROLS.add(b'%');

pub(crate) struct Signed {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The request of an attempt. `ack_url`: where to acknowledge, where that may be later.
pub(crate) fn signed(
    envelope: &Envelope,
    keys: &Keys,
    ack_url: Option<&str>,
    now: OffsetDateTime,
) -> Result<Signed, Error> {
    let body = serde_json::to_vec(envelope).map_err(|error| Error::Stored(error.to_string()))?;
    let id = id(envelope);
    // A signature is good for minutes, so that each attempt has its own time.
    let timestamp = now.unix_timestamp();
    let former = keys.former.iter().filter(|(_, until)| *until > now).map(|(secret, _)| secret);
    let signatures: Vec<String> =
        [&keys.current].into_iter().chain(former).map(|key| key.sign(&id, timestamp, &body)).collect();
    let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, CONTENT_TYPE), (header::USER_AGENT, USER_AGENT)]);
    let said = [
        (HeaderName::from_static("webhook-id"), Some(id.clone())),
        (HeaderName::from_static("webhook-timestamp"), Some(timestamp.to_string())),
        (HeaderName::from_static("webhook-signature"), Some(signatures.join(" "))),
        (ACK_URL, ack_url.map(str::to_owned)),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            headers.insert(name, HeaderValue::try_from(value).map_err(|error| Error::Stored(error.to_string()))?);
        }
    }
    if let Some(context) = telemetry::current() {
        telemetry::inject(&context, &mut headers);
    }
    Ok(Signed { headers, body: body.into() })
}

/// The event's id, the same in every attempt; what a header can't hold of it is percent-encoded.
fn id(envelope: &Envelope) -> String {
    match envelope.id.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => envelope.id.clone(),
        false => utf8_percent_encode(&envelope.id, ID).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use events::Name;
    use time::{Duration, macros::datetime};

    use super::*;
    use crate::{Signature, ack::AckKey, secret::Secret};

    const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);

    fn envelope(id: &str) -> Envelope {
        Envelope::new("/services/order", Name::new("ORDERS").unwrap(), Name::new("PLACED").unwrap()).id(id)
    }

    fn keys(ends: &[OffsetDateTime]) -> Keys {
        let secret = || Secret::generate(Signature::V1).unwrap();
        let former = ends.iter().map(|until| (secret(), *until)).collect();
        Keys { current: secret(), former, ack: AckKey::new(b"key") }
    }

    #[test]
    fn every_secret_signs_until_its_own_end() {
        let keys = keys(&[NOW + Duration::hours(1), NOW + Duration::minutes(1)]);
        let at = |now| signed(&envelope("event1"), &keys, None, now).unwrap();
        let during = at(NOW);
        let all = during.headers["webhook-signature"].to_str().unwrap().to_owned();
        let by = |secret: &Secret| secret.sign("event1", NOW.unix_timestamp(), &during.body);
        let [former, earlier] = [0, 1].map(|at| by(&keys.former[at].0));
        assert_eq!(all, format!("{} {former} {earlier}", by(&keys.current)));
        let later = at(NOW + Duration::minutes(1));
        assert_eq!(later.headers["webhook-signature"].to_str().unwrap().split(' ').count(), 2);
        assert_eq!(during.headers["webhook-id"], "event1");
        assert_eq!(during.headers["webhook-timestamp"], NOW.unix_timestamp().to_string().as_str());
        let after = at(NOW + Duration::hours(1));
        assert!(!after.headers["webhook-signature"].to_str().unwrap().contains(' '));
        assert!(!after.headers.contains_key(ACK_URL));
    }

    #[test]
    fn the_body_is_the_event_and_any_id_fits_a_header() {
        let keys = keys(&[NOW]);
        let request = signed(&envelope("bestellung-\u{fc}"), &keys, Some("/webhooks/ack/x"), NOW).unwrap();
        assert_eq!(request.headers["webhook-id"], "bestellung-%C3%BC");
        assert_eq!(request.headers[ACK_URL], "/webhooks/ack/x");
        let event: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(
            (&event["specversion"], &event["queue"], &event["id"]),
            (&"1.0".into(), &"ORDERS".into(), &"bestellung-\u{fc}".into())
        );
    }
}
