//! From a database transaction to the bus: [`append`] writes an event in the transaction that made the change, the
//! [`Relay`] publishes it afterwards, in the order of each key's commits.

use bus::Bus;
use database::{Database, Error, Migration, Transaction};
use events::Address;
use tokio_util::sync::CancellationToken;

/// An event to append. The id is a UUIDv7 unless given; `time` is now; the trace is the current span's.
#[derive(Clone, Debug)]
pub struct Event {
    pub address: Address,
    /// The entity, and what orders: `products/42`.
    pub subject: String,
    pub data: serde_json::Value,
    pub id: Option<String>,
    pub causation_id: Option<String>,
    pub correlation_id: Option<String>,
    /// The principal whose event it is.
    pub owner: Option<String>,
}

impl Event {
    /// # Panics
    /// Never on input: `address` is the program's own text.
    pub fn new(_address: &'static str, _subject: impl Into<String>, _data: serde_json::Value) -> Self {
        todo!()
    }
}

/// The tables; they go into the service's own migrations with a version the service chooses.
pub fn migration(_version: i64) -> Migration {
    todo!()
}

/// Appends to the outbox of the transaction's database. Call it after the row's lock is held (after the UPDATE), so that
/// the outbox has the order of the key's commits. `source` is `/services/<name>`.
pub async fn append(_tx: &mut Transaction, _source: &str, _event: Event) -> Result<(), Error> {
    todo!()
}

/// Publishes what was appended. One relay works a database at a time, however many run.
pub struct Relay;

impl Relay {
    pub fn new(_database: Database, _bus: Bus, _source: &str) -> Self {
        todo!()
    }
    pub async fn run(self, _drain: CancellationToken) -> anyhow::Result<()> {
        todo!()
    }
}
