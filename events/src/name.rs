//! Names of queues and events: `DB/CREATE` is queue `DB`, event `CREATE`.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

/// A queue's or an event's name: `[A-Z0-9][A-Z0-9_-]{0,63}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: 1 to 64 of A-Z, 0-9, _ and -, starting with a letter or digit")]
pub struct NameError(pub String);

impl Name {
    /// # Errors
    /// If it doesn't match the pattern.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let bytes = name.as_bytes();
        let alphanumeric = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        let valid = bytes.len() <= 64
            && bytes.first().is_some_and(alphanumeric)
            && bytes.iter().all(|b| alphanumeric(b) || matches!(b, b'_' | b'-'));
        if valid { Ok(Self(name.into())) } else { Err(NameError(name.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(&name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where an event belongs: `DB/CREATE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    pub queue: Name,
    pub event: Name,
}

impl FromStr for Address {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (queue, event) = text.split_once('/').ok_or_else(|| NameError(text.to_owned()))?;
        Ok(Self { queue: Name::new(queue)?, event: Name::new(event)? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.queue, self.event)
    }
}
