//! The asynchronous contract: the envelope every event travels in, the names of queues and events, and filters on them.
//!
//! It does no input or output, and knows no event by name.

mod condition;
mod envelope;
mod field;
mod filter;
mod name;
mod reader;
mod reply_to;
mod rule;
mod wire;

pub use condition::Condition;
pub use envelope::{Data, Envelope, EnvelopeError};
pub use filter::{Filter, FilterError, Pattern};
pub use name::{Address, Name, NameError};
pub use reply_to::{ReplyTo, ReplyToError};
