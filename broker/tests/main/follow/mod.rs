//! Following: the same on every transport, from any cursor, on any broker.

mod cursor;
mod drain;
mod durable;
mod every;
mod expiry;
mod gap;
mod hostile;
pub mod lab;
mod nodes;
mod parity;
mod pieces;
mod presence;
mod resume;
mod room;
mod scope;
mod slow;
mod socket;
mod view;
mod watch;
mod wire;
