//! Where the receipt of an event goes: the attribute `replyto`.

use std::{fmt, str::FromStr};

use crate::Name;

const QUEUE: &str = "queue:";
const WEBHOOK: &str = "webhook:";
const MOST_ID_BYTES: usize = 40;
/// Queues of the bus's own.
const RESERVED: [&str; 4] = ["SYS", "PRESENCE", "RECEIPT", "ROOMS"];

/// Its text form is `queue:ORDERS_REPLIES`, or `webhook:` and the id of one that is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    Queue(Name),
    /// By its id: 1 to 40 of `a-z 0-9 _`.
    Webhook(String),
}

/// Why a text is no place for a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyToError {
    #[error("must be queue: and a queue's name, like queue:ORDERS_REPLIES, or webhook: and the id of a webhook")]
    Form,
    #[error("is an address: register it as a webhook, and say webhook: and its id")]
    Address,
    #[error("{0} is the bus's own queue; name another one")]
    Reserved(Name),
}

impl fmt::Display for ReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "{QUEUE}{queue}"),
            Self::Webhook(id) => write!(f, "{WEBHOOK}{id}"),
        }
    }
}

impl FromStr for ReplyTo {
    type Err = ReplyToError;

    fn from_str(text: &str) -> Result<Self, ReplyToError> {
        if let Some(id) = text.strip_prefix(WEBHOOK) {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            let is_id = (1..=MOST_ID_BYTES).contains(&id.len()) && id.bytes().all(plain);
            return if is_id { Ok(Self::Webhook(id.to_owned())) } else { Err(ReplyToError::Form) };
        }
        let Some(queue) = text.strip_prefix(QUEUE) else {
            let url = ["http:", "https:"].iter().any(|scheme| text.starts_with(scheme));
            return Err(if url { ReplyToError::Address } else { ReplyToError::Form });
        };
        let queue = Name::new(queue).map_err(|_| ReplyToError::Form)?;
        if RESERVED.contains(&queue.as_str()) {
            return Err(ReplyToError::Reserved(queue));
        }
        Ok(Self::Queue(queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_named() {
        let to: ReplyTo = "queue:ORDERS_REPLIES".parse().unwrap();
        assert_eq!(to, ReplyTo::Queue(Name::new("ORDERS_REPLIES").unwrap()));
        assert_eq!(to.to_string(), "queue:ORDERS_REPLIES");
    }

    #[test]
    fn a_webhook_is_named_by_its_id() {
        let to: ReplyTo = "webhook:wh_0192".parse().unwrap();
        assert_eq!(to, ReplyTo::Webhook("wh_0192".to_owned()));
        assert_eq!(to.to_string(), "webhook:wh_0192");
    }

    #[test]
    fn what_is_no_place_for_a_receipt_is_refused_with_the_reason() {
        for (text, expected) in [
            ("", ReplyToError::Form),
            ("ORDERS_REPLIES", ReplyToError::Form),
            ("queue:", ReplyToError::Form),
            ("queue:orders", ReplyToError::Form),
            ("https://example.com/receipts", ReplyToError::Address),
            ("webhook:", ReplyToError::Form),
            ("webhook:https://example.com", ReplyToError::Form),
            ("queue:SYS", ReplyToError::Reserved(Name::new("SYS").unwrap())),
        ] {
            assert_eq!(text.parse::<ReplyTo>(), Err(expected), "{text}");
        }
    }
}
