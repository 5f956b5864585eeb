//! Protobuf messages known only by their descriptors: read from JSON and from text, strictly; written as JSON.

mod field;
pub mod read;
mod text;
mod write;

pub use field::{FieldPath, named};
pub use write::{write_field, write_message};
