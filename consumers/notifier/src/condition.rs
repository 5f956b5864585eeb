//! What a field of an event must be.

use events::Envelope;
use serde_json::Value;

use crate::field::{self, Field};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub field: Field,
    pub test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// One of these, compared as text.
    In(Vec<String>),
    Prefix(String),
    Exists(bool),
}

impl Condition {
    pub fn holds(&self, envelope: &Envelope) -> bool {
        let value = self.field.of(envelope);
        match &self.test {
            Test::In(wanted) => value.is_some_and(|value| wanted.contains(&value)),
            Test::Prefix(prefix) => value.is_some_and(|value| value.starts_with(prefix)),
            Test::Exists(wanted) => value.is_some() == *wanted,
        }
    }
}

impl Test {
    /// Reads a value (`equals`), or one of `equals`, `in`, `prefix`, `exists`.
    pub fn read(written: &Value) -> Result<Self, String> {
        const FORM: &str = "must be a value, or one of {equals: …}, {in: […]}, {prefix: …}, {exists: true}";
        let Value::Object(members) = written else { return Ok(Self::In(vec![scalar(written)?])) };
        let mut members = members.iter();
        let (Some((name, value)), None) = (members.next(), members.next()) else { return Err(FORM.to_owned()) };
        match (name.as_str(), value) {
            ("equals", value) => Ok(Self::In(vec![scalar(value)?])),
            ("in", Value::Array(values)) if !values.is_empty() => {
                Ok(Self::In(values.iter().map(scalar).collect::<Result<_, _>>()?))
            }
            ("in", _) => Err("in: must be a list that isn't empty".to_owned()),
            ("prefix", Value::String(prefix)) if !prefix.is_empty() => Ok(Self::Prefix(prefix.clone())),
            ("prefix", _) => Err("prefix: must be text that isn't empty".to_owned()),
            ("exists", Value::Bool(exists)) => Ok(Self::Exists(*exists)),
            ("exists", _) => Err("exists: must be true or false".to_owned()),
            _ => Err(FORM.to_owned()),
        }
    }
}

fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Err("must not be null: {exists: false} says that there is nothing".to_owned()),
        Value::Array(_) | Value::Object(_) => Err("must be text, a number, true or false".to_owned()),
        value => Ok(field::text(value).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Name;
    use serde_json::json;

    fn holds(field: &str, test: &Value) -> bool {
        let envelope = Envelope::new("/services/customer", Name::new("DB").unwrap(), Name::new("CREATE").unwrap())
            .subject("customers/1")
            .data(json!({"stock": "12", "vip": true, "gone": null}));
        Condition { field: field.parse().unwrap(), test: Test::read(test).unwrap() }.holds(&envelope)
    }

    #[test]
    fn a_condition_holds_or_not() {
        assert!(holds("event.source", &json!("/services/customer")));
        assert!(!holds("event.source", &json!({"equals": "/services/order"})));
        assert!(holds("event.subject", &json!({"prefix": "customers/"})));
        assert!(!holds("event.subject", &json!({"prefix": "orders/"})));
        assert!(holds("data.stock", &json!(12)), "64-bit numbers are strings in proto3 JSON");
        assert!(holds("data.vip", &json!({"in": [false, true]})));
        assert!(holds("data.gone", &json!({"exists": false})));
        assert!(!holds("data.gone", &json!({"prefix": "x"})));
        assert!(holds("data.vip", &json!({"exists": true})));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for wrong in [
            json!(null),
            json!([1]),
            json!({}),
            json!({"matches": "x"}),
            json!({"in": []}),
            json!({"in": "x"}),
            json!({"prefix": ""}),
            json!({"exists": "yes"}),
            json!({"equals": {"a": 1}}),
            json!({"equals": 1, "prefix": "x"}),
        ] {
            assert!(Test::read(&wrong).is_err(), "{wrong}");
        }
    }
}
