//! JSON to the protobuf wire format and back, by tables compiled from descriptors
//! (<https://protobuf.dev/programming-guides/json/>).
//!
//! Strict: unknown members, members given twice, two members of a oneof, numbers that are not exact are refused, each
//! named by its path. Nesting beyond [`DEPTH`] is refused; nothing is kept that is larger than what came in.

pub mod dynamic;
mod fault;
mod path;
mod plain;
mod read;
mod schema;
mod table;
mod time;
mod wire;
mod write;

pub use fault::{Fault, Malformed, Violation};
pub use path::Path;
pub use schema::{Message, Schema};

/// How deep arrays and objects of a JSON text may nest.
pub const DEPTH: usize = 64;
