//! The JSON body of a POST, with variables in its texts.

use serde_json::Value;

use super::{
    super::template::Escape,
    text::{Scope, Text, Values, Variable},
};

/// A compiled body.
pub enum Written {
    /// JSON, the same for all.
    Literal(Vec<u8>),
    Text(Text),
    Array(Vec<Self>),
    /// Names are JSON texts already.
    Object(Vec<(Vec<u8>, Self)>),
}

impl Written {
    /// # Errors
    /// A sentence on the first text that is wrong.
    pub fn new(value: &Value, scope: &Scope<'_>) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) if text.contains(['{', '}']) => Self::Text(Text::parse(text, scope)?),
            Value::Array(values) => {
                Self::Array(values.iter().map(|value| Self::new(value, scope)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| Ok((quoted(name), Self::new(value, scope)?));
                Self::Object(members.iter().map(member).collect::<Result<_, String>>()?)
            }
            plain => Self::Literal(plain.to_string().into_bytes()),
        })
    }

    pub fn texts<'a>(&'a self, texts: &mut Vec<&'a Text>) {
        match self {
            Self::Literal(_) => {}
            Self::Text(text) => texts.push(text),
            Self::Array(values) => values.iter().for_each(|value| value.texts(texts)),
            Self::Object(members) => members.iter().for_each(|(_, value)| value.texts(texts)),
        }
    }

    /// Appends it. Fails with the text that names something of a part or an element that isn't there; what a request
    /// doesn't give is null.
    pub fn write<'a>(&'a self, values: &Values<'_>, json: &mut Vec<u8>) -> Result<(), &'a Text> {
        match self {
            Self::Literal(literal) => json.extend_from_slice(literal),
            Self::Text(text) => {
                if let Some(variable @ (Variable::Part(_) | Variable::Item(_))) = text.sole() {
                    json.extend_from_slice(variable.json(values).ok_or(text)?);
                } else {
                    match text.expand(Escape::None, values) {
                        Some(value) => json.extend_from_slice(&quoted(&value)),
                        None if text.is_of_request() => json.extend_from_slice(b"null"),
                        None => return Err(text),
                    }
                }
            }
            Self::Array(elements) => {
                json.push(b'[');
                for (at, element) in elements.iter().enumerate() {
                    if at > 0 {
                        json.push(b',');
                    }
                    element.write(values, json)?;
                }
                json.push(b']');
            }
            Self::Object(members) => {
                json.push(b'{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        json.push(b',');
                    }
                    json.extend_from_slice(name);
                    json.push(b':');
                    value.write(values, json)?;
                }
                json.push(b'}');
            }
        }
        Ok(())
    }
}

/// A text as JSON has it.
pub fn quoted(text: &str) -> Vec<u8> {
    Value::from(text).to_string().into_bytes()
}
