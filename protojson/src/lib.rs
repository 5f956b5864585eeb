//! JSON to the protobuf wire format and back, by tables compiled from descriptors
//! (<https://protobuf.dev/programming-guides/json/>).
//!
//! Strict: unknown members, members given twice, two members of a oneof, numbers that are not exact are refused, each
//! named by its path. Nesting beyond [`DEPTH`] is refused, and so is a message whose JSON would be larger than [`SIZE`].
//! What is encoded is bounded by what came in: a number of two characters in a list of any JSON makes eleven bytes.
//!
//! The tables ([`Message::read_by_tables`]) take what is right and usual, in one pass, without a value for anything in
//! between. All else goes to the [`dynamic`] path, which says what is wrong, and which is the oracle of the tables' tests.

pub mod dynamic;
mod fault;
mod keys;
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

/// How large the JSON of one message may become, in bytes. Fields that are not set are written too: two bytes that say that
/// there is an element may become thousands.
pub const SIZE: usize = 64 << 20;
