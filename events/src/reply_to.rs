//! Where the receipt of an event goes: the attribute `replyto`.

use std::{fmt, str::FromStr};

use crate::Name;

const QUEUE: &str = "queue:";
/// Queues of the bus's own.
const RESERVED: [&str; 4] = ["SYS", "PRESENCE", "RECEIPT", "ROOMS"];

/// Its text form is `queue:ORDERS_REPLIES`. A webhook's will be its URL; there are none yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    Queue(Name),
}

/// Why a text is no place for a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyToError {
    #[error("must be queue: and a queue's name, like queue:ORDERS_REPLIES")]
    Form,
    #[error("a receipt by webhook is not offered yet; name a queue, like queue:ORDERS_REPLIES")]
    Webhook,
    #[error("{0} is the bus's own queue; name another one")]
    Reserved(Name),
}

impl fmt::Display for ReplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "{QUEUE}{queue}"),
        }
    }
}

impl FromStr for ReplyTo {
    type Err = ReplyToError;

    fn from_str(text: &str) -> Result<Self, ReplyToError> {
        let Some(queue) = text.strip_prefix(QUEUE) else {
            let url = ["http:", "https:", "webhook:"].iter().any(|scheme| text.starts_with(scheme));
            return Err(if url { ReplyToError::Webhook } else { ReplyToError::Form });
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
    fn what_is_no_place_for_a_receipt_is_refused_with_the_reason() {
        for (text, expected) in [
            ("", ReplyToError::Form),
            ("ORDERS_REPLIES", ReplyToError::Form),
            ("queue:", ReplyToError::Form),
            ("queue:orders", ReplyToError::Form),
            ("https://example.com/receipts", ReplyToError::Webhook),
            ("queue:SYS", ReplyToError::Reserved(Name::new("SYS").unwrap())),
        ] {
            assert_eq!(text.parse::<ReplyTo>(), Err(expected), "{text}");
        }
    }
}
