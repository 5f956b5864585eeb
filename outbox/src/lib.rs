//! From a database transaction to the bus: [`append`] writes an event in the transaction that made the change, the
//! [`Relay`] publishes it afterwards, in the order of each key's commits.
//!
//! It promises: what was committed reaches the bus, at least once, whatever dies in between; and again, in order, where
//! the bus has lost it within seven days. A crash between publishing and remembering it makes no second event, because
//! each event carries a number that the bus knows. The envelope is made of the row, so it is the same each time.
//!
//! How: a row starts without a number. Under a lease on the database the relay *stamps* rows in the order of `seq` with
//! the number that comes next in their partition, *publishes* them by that number, and *marks* where the bus recorded
//! them. A row of a lower `seq` that becomes visible later gets a higher number, which is right: rows of one key are
//! appended under its lock, so their order of `seq` is that of their commits.
//!
//! A [`Journal`] keeps what others publish in the same way.
//!
//! It doesn't deliver, retry handlers, or order events of different keys.

mod append;
mod event;
mod journal;
mod lease;
mod metrics;
mod publish;
mod relay;
mod row;
mod store;
mod trace;

pub use append::{append, migration};
pub use event::Event;
pub use journal::{Journal, journal_migration};
pub use relay::Relay;

/// Where a test may have the process die: rows have their numbers and are not published; they are published and not
/// marked.
pub const ABORT_POINTS: [&str; 2] = ["outbox.stamped", "outbox.published"];
