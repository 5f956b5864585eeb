use events::Address;
use serde_json::Value;
use uuid::Uuid;

/// Of the ids that derive from a request.
const REQUESTS: Uuid = Uuid::from_u128(0x5d0f_6a7e_94c1_4b3a_9a52_1c6e_70d8_b3f4);

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

    /// An event of a request that its owner may repeat under this key: its id derives from owner, key and step, which is its
    /// address (UUIDv5). Whatever has it written once more, the bus and all who read it know it for the same.
    #[must_use]
    pub fn of_request(self, owner: &str, key: &str) -> Self {
        let step = format!("{owner}\0{key}\0{}", self.address);
        Self { id: Some(Uuid::new_v5(&REQUESTS, step.as_bytes()).to_string()), owner: Some(owner.to_owned()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(owner: &str, key: &str, address: &'static str) -> String {
        Event::new(address, "orders/1", Value::Null).of_request(owner, key).id.unwrap()
    }

    #[test]
    fn an_id_is_of_one_owner_one_key_and_one_step() {
        let first = id("customers/1", "a", "DB/CREATE");
        // Golden: a repeat may come when another version runs.
        assert_eq!(first, "0103f129-6a5f-514b-b0fa-e932e9b51785");
        for other in [
            id("customers/2", "a", "DB/CREATE"),
            id("customers/1", "b", "DB/CREATE"),
            id("customers/1", "a", "ORDER_COMMANDS/PLACE"),
        ] {
            assert_ne!(other, first);
        }
    }
}
