//! Why a text is not the message, or a message has no text.

/// One bad field: `{"field": "lines[2].quantity", "reason": "must be a whole number of 32 bits"}`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Where it stands in the JSON text; empty for all of it.
    pub field: String,
    pub reason: String,
}

/// Why a JSON text is not the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It isn't JSON, or nests too deep: a sentence.
    Syntax(String),
    /// It is JSON of another shape; at most 100 of them.
    Violations(Vec<Violation>),
}

/// Why encoded bytes can't be shown: they are not the message, or hold what JSON has no form for, such as a timestamp in
/// the year 10000. A sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) String);

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}
