//! Where a value lies in an event: `event.subject`, `data.email`, `data.items.0.name`.

use std::str::FromStr;

use events::Envelope;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;

/// Attributes that may be asked for, as they are written.
const ATTRIBUTES: [&str; 12] = [
    "id",
    "source",
    "type",
    "queue",
    "event",
    "subject",
    "key",
    "time",
    "correlationid",
    "causationid",
    "owner",
    "priority",
];

/// The deepest way into the data.
const MAX_DEPTH: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Attribute(&'static str),
    /// Members, and places in lists, from the outside in; empty: the data as a whole.
    Data(Vec<String>),
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix("event.") {
            let known = ATTRIBUTES.into_iter().find(|known| *known == name);
            return known
                .map(Self::Attribute)
                .ok_or_else(|| format!("`{text}` is no attribute: {}", ATTRIBUTES.join(", ")));
        }
        let Some(path) = text.strip_prefix("data.") else {
            return Err(format!("`{text}` is neither event.ATTRIBUTE nor data.FIELD"));
        };
        let members: Vec<String> = path.split('.').map(str::to_owned).collect();
        let wrong = |member: &String| member.is_empty() || member.chars().any(|c| c.is_whitespace() || c.is_control());
        if members.len() > MAX_DEPTH || members.iter().any(wrong) {
            return Err(format!("`{text}` is no path of fields"));
        }
        Ok(Self::Data(members))
    }
}

impl Field {
    /// What the event has there, as text; None where there is nothing, or null.
    pub fn of(&self, envelope: &Envelope) -> Option<String> {
        match self {
            Self::Attribute(name) => attribute(name, envelope),
            Self::Data(members) => {
                let step = |value: &'_ Value, member: &String| -> Option<Value> {
                    match value {
                        Value::Array(items) => items.get(member.parse::<usize>().ok()?).cloned(),
                        other => other.get(member).cloned(),
                    }
                };
                let (first, rest) = members.split_first()?;
                let mut value = step(envelope.json()?, first)?;
                for member in rest {
                    value = step(&value, member)?;
                }
                text(&value)
            }
        }
    }
}

/// A value as text: numbers as JSON writes them, so that a 64-bit number, which proto3 JSON writes as a string, is the
/// same as any other number.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn attribute(name: &str, envelope: &Envelope) -> Option<String> {
    match name {
        "id" => Some(envelope.id.clone()),
        "source" => Some(envelope.source.clone()),
        "type" => Some(envelope.r#type.clone()),
        "queue" => Some(envelope.queue.to_string()),
        "event" => Some(envelope.event.to_string()),
        "subject" => envelope.subject.clone(),
        "key" => Some(envelope.key().to_owned()),
        "time" => envelope.time.format(&Rfc3339).ok(),
        "correlationid" => envelope.correlationid.clone(),
        "causationid" => envelope.causationid.clone(),
        "owner" => envelope.owner.clone(),
        "priority" => Some(envelope.priority.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Name;
    use serde_json::json;

    #[test]
    fn a_field_is_found_by_its_path() {
        let envelope = Envelope::new("/services/order", Name::new("DB").unwrap(), Name::new("CREATE").unwrap())
            .subject("orders/7")
            .data(json!({"items": [{"name": "lamp", "count": "2"}], "note": null, "paid": true}));
        let of = |path: &str| path.parse::<Field>().unwrap().of(&envelope);
        assert_eq!(of("event.source").as_deref(), Some("/services/order"));
        assert_eq!(of("event.key").as_deref(), Some("orders/7"));
        assert_eq!(of("data.items.0.name").as_deref(), Some("lamp"));
        assert_eq!(of("data.paid").as_deref(), Some("true"));
        for absent in ["data.note", "data.items.1.name", "data.items.x", "data.paid.deeper", "event.owner"] {
            assert_eq!(of(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_path_that_leads_nowhere_is_refused() {
        for wrong in ["", "email", "data", "data.", "data..x", "event.", "event.color", "data.a b"] {
            assert!(wrong.parse::<Field>().is_err(), "{wrong}");
        }
    }
}
