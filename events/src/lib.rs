//! The asynchronous contract: the envelope every event travels in, the names of queues and events, and filters on them.

mod envelope;
mod name;

pub use envelope::{Data, Envelope};
pub use name::{Address, Filter, Name, NameError};
