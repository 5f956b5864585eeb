//! Following: the same on every transport, from any cursor, on any broker.

mod drain;
mod gap;
mod hostile;
pub mod lab;
mod nodes;
mod presence;
mod resume;
mod room;
mod scope;
mod slow;
mod socket;
mod watch;
mod wire;
