//! Following: the same on every transport, from any cursor, on any broker.

mod drain;
mod gap;
mod hostile;
pub mod lab;
mod nodes;
mod resume;
mod scope;
mod slow;
mod socket;
mod watch;
