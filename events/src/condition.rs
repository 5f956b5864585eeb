//! What a field of an event must be: `[data.status=NEW]`, `[subject^=products/]`, `[priority in 7|8|9]`, `[replyto exists]`.
//!
//! A word that reads as a number, `true` or `false` is one; in quotes, written as JSON writes them, everything is text.
//! A number is also found where it is written as text, as 64-bit numbers are in proto3 JSON. Times are texts as RFC 3339
//! writes them in UTC.

use std::{fmt, str::FromStr};

use serde_json::Number;

use crate::{
    Envelope, FilterError,
    field::{Field, Given},
    reader::{Reader, is_plain, write_joined, write_quoted},
};

/// The most values of a list.
const MAX_VALUES: usize = 64;
/// The longest value, in bytes.
const MAX_VALUE: usize = 256;

/// What a field of an event must be. Made from its text, with or without the brackets, which [`fmt::Display`] writes again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    field: Field,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Test {
    Equals(Operand),
    In(Vec<Operand>),
    Prefix(String),
    /// There is something, and it isn't null.
    Exists,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Operand {
    Text(String),
    Number(Number),
    Bool(bool),
}

impl Condition {
    pub fn holds(&self, envelope: &Envelope) -> bool {
        let Some(given) = self.field.of(envelope) else { return false };
        match &self.test {
            Test::Equals(wanted) => wanted.is(&given),
            Test::In(wanted) => wanted.iter().any(|wanted| wanted.is(&given)),
            Test::Prefix(prefix) => matches!(given, Given::Text(text) if text.starts_with(prefix.as_str())),
            Test::Exists => true,
        }
    }

    /// The text that an attribute must be, where that is what is asked of it.
    pub fn text_of(&self, attribute: &str) -> Option<&str> {
        match (&self.field, &self.test) {
            (Field::Attribute(name), Test::Equals(Operand::Text(text))) if name == attribute => Some(text),
            _ => None,
        }
    }

    /// What stands between the brackets.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        reader.spaces();
        let field = Field::read(reader)?;
        reader.spaces();
        let test = if reader.takes("^=") {
            reader.spaces();
            Test::Prefix(text(reader)?.0)
        } else if reader.takes("=") {
            Test::Equals(Operand::read(reader)?)
        } else if reader.takes("in ") {
            let mut operands = vec![Operand::read(reader)?];
            while reader.takes("|") {
                operands.push(Operand::read(reader)?);
            }
            if operands.len() > MAX_VALUES {
                return Err(format!("a list has at most {MAX_VALUES} values"));
            }
            Test::In(operands)
        } else if reader.takes("exists") {
            Test::Exists
        } else {
            return Err(format!("=, ^=, in or exists is missing before {}", reader.ahead()));
        };
        reader.spaces();
        Ok(Self { field, test })
    }
}

impl Operand {
    fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        reader.spaces();
        let (text, quoted) = text(reader)?;
        reader.spaces();
        match text.as_str() {
            _ if quoted => Ok(Self::Text(text)),
            "null" => Err("null equals nothing; [FIELD exists] asks for something".to_owned()),
            plain => Ok(Self::unquoted(plain).unwrap_or(Self::Text(text))),
        }
    }

    /// What a word means that stands without quotes, if it isn't text.
    fn unquoted(word: &str) -> Option<Self> {
        match word {
            "true" => Some(Self::Bool(true)),
            "false" => Some(Self::Bool(false)),
            word if word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                serde_json::from_str(word).ok().map(Self::Number)
            }
            _ => None,
        }
    }

    fn is(&self, given: &Given<'_>) -> bool {
        match (self, given) {
            (Self::Text(wanted), Given::Text(text)) => wanted == text,
            (Self::Number(wanted), Given::Number(number)) => {
                wanted == number || (wanted.is_f64() || number.is_f64()) && wanted.as_f64() == number.as_f64()
            }
            (Self::Number(wanted), Given::Text(text)) => wanted.to_string() == *text,
            (Self::Bool(wanted), Given::Bool(value)) => wanted == value,
            _ => false,
        }
    }
}

/// A word, or what stands in quotes; and whether it did.
fn text(reader: &mut Reader<'_>) -> Result<(String, bool), String> {
    let (text, quoted) = match reader.quoted() {
        Some(text) => (text?, true),
        None => (reader.run(is_plain).to_owned(), false),
    };
    if text.is_empty() && !quoted {
        return Err(format!("a value is missing before {}", reader.ahead()));
    }
    if text.len() > MAX_VALUE {
        return Err(format!("a value has at most {MAX_VALUE} bytes"));
    }
    Ok((text, quoted))
}

impl FromStr for Condition {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        FilterError::reading(text, |reader| {
            let within = reader.takes("[");
            let condition = Self::read(reader)?;
            if within { reader.expect("]").map(|()| condition) } else { Ok(condition) }
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = &self.field;
        match &self.test {
            Test::Equals(operand) => write!(f, "[{field}={operand}]"),
            Test::In(operands) => {
                write!(f, "[{field} in ")?;
                write_joined(f, operands, '|')?;
                f.write_str("]")
            }
            Test::Prefix(prefix) => {
                write!(f, "[{field}^=")?;
                write_text(f, prefix, |_| true)?;
                f.write_str("]")
            }
            Test::Exists => write!(f, "[{field} exists]"),
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write_text(f, text, |word| word != "null" && Self::unquoted(word).is_none()),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// In quotes only where it must be.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str, means_itself: impl Fn(&str) -> bool) -> fmt::Result {
    if !text.is_empty() && text.chars().all(is_plain) && means_itself(text) {
        f.write_str(text)
    } else {
        write_quoted(f, text)
    }
}
