//! Acknowledging later: a receiver that answers 202 is given the time to say what became of the event, at an address that is
//! signed for this endpoint and event, and for no others.

use std::fmt::{self, Write as _};

use aws_lc_rs::{constant_time, digest, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bus::Delivery;
use time::OffsetDateTime;
use uuid::Uuid;

/// Bytes of a tag, and of what an event is known by.
const TAG: usize = 16;
const KNOWN_BY: usize = 16;
const PAYLOAD: usize = 16 + KNOWN_BY + 4 + 8 + 8;

/// What signs the addresses of an endpoint.
pub(crate) struct AckKey(hmac::Key);

/// Which event of an endpoint it is, and until when it may be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub endpoint: Uuid,
    pub event: Known,
    pub partition: u32,
    pub position: u64,
    /// Seconds since 1970.
    pub until: i64,
}

/// What an event is known by: a digest of its queue, place, source and id. What is published again, later than the bus knows
/// that it was, is another event; so is what comes again because its group was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known([u8; KNOWN_BY]);

/// What a receiver says later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Late {
    /// It is done.
    Done,
    /// It is to be tried again.
    Failed(String),
}

/// Why an acknowledgement isn't taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    #[error("this is no address that was given")]
    Unknown,
    #[error("its time is over: the event was tried again, or given up")]
    Over,
    #[error(transparent)]
    Failed(#[from] crate::Error),
}

impl Known {
    pub fn of(delivery: &Delivery) -> Self {
        let envelope = &delivery.envelope;
        let (partition, position) = (delivery.partition.to_string(), delivery.position.to_string());
        let mut text = [envelope.queue.as_str(), &partition, &position, &envelope.source, &envelope.id].join("\n");
        // Before the first move it is what earlier versions knew it by.
        if delivery.generation > 1 {
            let _ = write!(text, "\n{}", delivery.generation);
        }
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        let mut known = [0; KNOWN_BY];
        known.copy_from_slice(&digest.as_ref()[..KNOWN_BY]);
        Self(known)
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl AckKey {
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn tag(&self, payload: &[u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&self.0, payload).as_ref()[..TAG]);
        tag
    }

    /// The end of the address.
    pub fn token(&self, ack: &Ack) -> String {
        let payload = ack.bytes();
        URL_SAFE_NO_PAD.encode([&payload[..], &self.tag(&payload)].concat())
    }

    /// Whether this key has signed it, and its time isn't over.
    pub fn verify(&self, token: &str, ack: &Ack, now: OffsetDateTime) -> Result<(), AckError> {
        let given = URL_SAFE_NO_PAD.decode(token).map_err(|_| AckError::Unknown)?;
        let tag = given.get(PAYLOAD..).ok_or(AckError::Unknown)?;
        constant_time::verify_slices_are_equal(tag, &self.tag(&ack.bytes())).map_err(|_| AckError::Unknown)?;
        if ack.until < now.unix_timestamp() { Err(AckError::Over) } else { Ok(()) }
    }
}

impl fmt::Debug for AckKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AckKey(…)")
    }
}

impl Ack {
    fn bytes(&self) -> [u8; PAYLOAD] {
        let mut bytes = [0; PAYLOAD];
        bytes[..16].copy_from_slice(self.endpoint.as_bytes());
        bytes[16..32].copy_from_slice(&self.event.0);
        bytes[32..36].copy_from_slice(&self.partition.to_be_bytes());
        bytes[36..44].copy_from_slice(&self.position.to_be_bytes());
        bytes[44..].copy_from_slice(&self.until.to_be_bytes());
        bytes
    }

    /// What a token claims; whether it is true, its endpoint's key tells.
    pub fn claimed(token: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == PAYLOAD + TAG)?;
        Some(Self {
            endpoint: Uuid::from_slice(&bytes[..16]).ok()?,
            event: Known(bytes[16..32].try_into().ok()?),
            partition: u32::from_be_bytes(bytes[32..36].try_into().ok()?),
            position: u64::from_be_bytes(bytes[36..44].try_into().ok()?),
            until: i64::from_be_bytes(bytes[44..52].try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn ack(now: OffsetDateTime) -> Ack {
        let until = now.unix_timestamp() + 900;
        Ack { endpoint: Uuid::now_v7(), event: Known([7; KNOWN_BY]), partition: 3, position: 42, until }
    }

    #[test]
    fn an_address_is_good_for_its_event_and_its_time() {
        let (key, now) = (AckKey::new(b"key"), OffsetDateTime::UNIX_EPOCH + Duration::days(20_000));
        let ack = ack(now);
        let token = key.token(&ack);
        assert_eq!(Ack::claimed(&token), Some(ack));
        key.verify(&token, &ack, now + Duration::minutes(15)).unwrap();
        assert_eq!(key.verify(&token, &ack, now + Duration::minutes(16)), Err(AckError::Over));
        assert_eq!(AckKey::new(b"other").verify(&token, &ack, now), Err(AckError::Unknown));
        let other = key.token(&Ack { position: 43, ..ack });
        assert_eq!(key.verify(&other, &ack, now), Err(AckError::Unknown));
    }

    #[test]
    fn what_is_no_token_claims_nothing() {
        for wrong in ["", "x", "AAAA", &"A".repeat(90), &"A".repeat(92), &"!".repeat(91)] {
            assert_eq!(Ack::claimed(wrong), None, "{wrong}");
        }
    }
}
