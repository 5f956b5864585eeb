use database::{Error, Migration, Transaction};
use events::Envelope;

/// Remembers, in the handler's own transaction, which events a group has taken in: so a repeated delivery has no second effect.
#[derive(Clone, Debug)]
pub struct Inbox {
    #[allow(dead_code)]
    group: String,
}

impl Inbox {
    /// The table; goes into the service's own migrations with a version the service chooses.
    pub fn migration(_version: i64) -> Migration {
        todo!()
    }
    pub fn new(group: &str) -> Self {
        Self { group: group.to_owned() }
    }
    /// True the first time this event (source, id) is seen; false ever after.
    pub async fn first(&self, _tx: &mut Transaction, _envelope: &Envelope) -> Result<bool, Error> {
        todo!()
    }
}
