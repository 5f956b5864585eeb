//! Messages of any type, by reflection: read from JSON and from text, strictly; written as JSON. The oracle of the tables,
//! and what says what is wrong where they refuse.

mod field;
pub mod read;
pub(crate) mod text;
mod write;

pub use field::FieldPath;
pub use write::{write_field, write_message};
