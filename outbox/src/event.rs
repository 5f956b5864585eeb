use events::Address;
use serde_json::Value;

/// An event to append. The id is a UUIDv7 unless given; `time` is now; the trace is the current span's.
#[derive(Clone, Debug)]
pub struct Event {
    pub address: Address,
    /// The entity, and what orders: `products/42`.
    pub subject: String,
    pub data: Value,
    pub id: Option<String>,
    pub causation_id: Option<String>,
    pub correlation_id: Option<String>,
    /// The principal whose event it is.
    pub owner: Option<String>,
}

impl Event {
    /// # Panics
    /// Never on input: `address` is the program's own text.
    #[expect(clippy::expect_used, reason = "a literal that is no address fails the first test that appends it")]
    pub fn new(address: &'static str, subject: impl Into<String>, data: Value) -> Self {
        Self {
            address: address.parse().expect("QUEUE/EVENT"),
            subject: subject.into(),
            data,
            id: None,
            causation_id: None,
            correlation_id: None,
            owner: None,
        }
    }
}
