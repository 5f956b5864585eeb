//! The asynchronous contract: the envelope every event travels in, the names of queues and events, and filters on them.
//!
//! It does no input or output, and knows no event by name.

mod envelope;
mod name;
mod rule;
mod wire;

pub use envelope::{Data, Envelope, EnvelopeError};
pub use name::{Address, Filter, Name, NameError};
