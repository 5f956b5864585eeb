//! Numbers of JSON, which are exact or refused.

use prost_reflect::Kind;

use super::super::text;

/// A JSON number as serde_json tells them apart: without a fraction or exponent it is whole, unless 64 bits can't hold it.
#[derive(Clone, Copy)]
pub enum Number {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

impl Number {
    /// # Errors
    /// What the number must be, if it is not exactly one of `T`.
    pub fn whole<T: TryFrom<i64> + TryFrom<u64>>(self, kind: &Kind) -> Result<T, String> {
        match self {
            Self::Signed(value) => T::try_from(value).map_err(|_| text::expected(kind)),
            Self::Unsigned(value) => T::try_from(value).map_err(|_| text::expected(kind)),
            Self::Float(value) => text::from_float(kind, value),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a float field takes the nearest float")]
    pub fn float(self) -> f64 {
        match self {
            Self::Signed(value) => value as f64,
            Self::Unsigned(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}
