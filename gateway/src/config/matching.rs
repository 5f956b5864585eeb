//! `match:` what a request must be.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::OneOrMany;

/// What a request must be: all of it. `match: { path: "/products/{id}", method: GET }`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// A template: `/products/{id}`, `/files/{rest=**}`, `/jobs/{id}:cancel`.
    pub path: String,
    /// One or a list; default: any; GET for an aggregate. GET stands for HEAD, too.
    #[serde(default)]
    pub method: OneOrMany<String>,
    /// `shop.example`, or `*.shop.example` for any name below it; one or a list, without port. Default: any.
    #[serde(default)]
    pub host: OneOrMany<String>,
    /// Headers by name: `{ x-version: "2", x-beta: { present: true }, authorization: { prefix: "Bearer " } }`.
    #[serde(default)]
    pub headers: BTreeMap<String, FieldMatch>,
    /// Query parameters by name, written as headers are.
    #[serde(default)]
    pub query: BTreeMap<String, FieldMatch>,
    /// Decides between routes with as many conditions; the greater wins. Default 0.
    #[serde(default)]
    pub priority: i32,
}

/// A value is asked for as it is; an empty one asks only that the field is there. A field that is there more than once
/// has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldMatch {
    Exact(String),
    Prefix(String),
    Present(bool),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[schemars(rename = "Field")]
enum Written {
    /// Its value.
    Exact(String),
    /// How its value begins.
    Prefix(String),
    /// Whether it is there.
    Present(bool),
}

impl fmt::Display for FieldMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => f.write_str(value),
            Self::Prefix(prefix) => write!(f, "{prefix}…"),
            Self::Present(present) => write!(f, "?{present}"),
        }
    }
}

impl schemars::JsonSchema for FieldMatch {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FieldOrValue".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let section = generator.subschema_for::<Written>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, section] })
    }
}

impl<'de> Deserialize<'de> for FieldMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = FieldMatch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text (a number stands in quotes), or one of `exact`, `prefix` and `present`")
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<FieldMatch, E> {
                Ok(if value.is_empty() { FieldMatch::Present(true) } else { FieldMatch::Exact(value.to_owned()) })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FieldMatch, A::Error> {
                Ok(match Written::deserialize(MapAccessDeserializer::new(map))? {
                    Written::Exact(value) => FieldMatch::Exact(value),
                    Written::Prefix(prefix) => FieldMatch::Prefix(prefix),
                    Written::Present(present) => FieldMatch::Present(present),
                })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_asked_for_in_four_ways() {
        let text = "{path: /, headers: {a: '1', b: '', c: {prefix: x}, d: {present: false}, e: {exact: ''}}}";
        let read: Match = serde_saphyr::from_str(text).unwrap();
        let values: Vec<_> = read.headers.into_values().collect();
        let expected = [
            FieldMatch::Exact("1".into()),
            FieldMatch::Present(true),
            FieldMatch::Prefix("x".into()),
            FieldMatch::Present(false),
            FieldMatch::Exact(String::new()),
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_number_and_an_unknown_way_are_refused() {
        for wrong in ["{path: /, query: {a: 1.10}}", "{path: /, query: {a: {regex: x}}}", "{path: /, query: {a: [b]}}"]
        {
            assert!(serde_saphyr::from_str::<Match>(wrong).is_err(), "{wrong}");
        }
    }
}
