use std::{fmt, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{action::duration, config::ConfigError};

/// `access_log: true`, `false`, or a section with more.
#[derive(Clone, Debug, PartialEq)]
pub struct Config(pub Option<Section>);

/// `access_log: { sample: 0.1, slower_than: 1s, query: true, without: [client.address] }`
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "AccessLog")]
pub struct Section {
    /// A file that lines are added to, opened again on SIGHUP; default: stdout.
    pub file: Option<PathBuf>,
    /// The share of requests that are told of, 0 to 1; default 1.
    pub sample: f64,
    /// Whether those answered with 400 or more are told of in any case; default true.
    pub errors: bool,
    /// Those that took longer are told of in any case; default: none.
    #[serde(deserialize_with = "duration::option")]
    pub slower_than: Option<Duration>,
    /// Whether the query is told, without values of parameters that look like secrets; default false.
    pub query: bool,
    /// Fields that are left out, by name.
    pub without: Vec<String>,
}

impl Default for Section {
    fn default() -> Self {
        Self { file: None, sample: 1.0, errors: true, slower_than: None, query: false, without: Vec::new() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self(Some(Section::default()))
    }
}

impl Config {
    /// # Errors
    /// A share that is none, or a field that is not there.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let Some(section) = &self.0 else { return errors };
        if !(0.0..=1.0).contains(&section.sample) {
            errors.push(ConfigError::new("access_log.sample", "must be within 0 and 1"));
        }
        for (at, name) in section.without.iter().enumerate() {
            if !super::FIELDS.contains(&name.as_str()) {
                let fields = super::FIELDS.join(", ");
                errors.push(ConfigError::new(
                    format!("access_log.without[{at}]"),
                    format!("no field \"{name}\": {fields}"),
                ));
            }
        }
        errors
    }
}

impl JsonSchema for Config {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AccessLogOrNot".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let section = generator.subschema_for::<Section>();
        schemars::json_schema!({ "anyOf": [{ "type": "boolean" }, section] })
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Config;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a section")
            }
            fn visit_bool<E>(self, on: bool) -> Result<Config, E> {
                Ok(Config(on.then(Section::default)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
                Section::deserialize(MapAccessDeserializer::new(map)).map(|section| Config(Some(section)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_switch_or_a_section() {
        let read = |text| serde_saphyr::from_str::<Config>(text);
        assert_eq!(read("false").unwrap(), Config(None));
        assert_eq!(read("true").unwrap(), Config::default());
        let section = read("{sample: 0.1, slower_than: 2s}").unwrap().0.unwrap();
        assert_eq!((section.sample, section.slower_than, section.errors), (0.1, Some(Duration::from_secs(2)), true));
        assert!(read("{sampel: 1}").is_err());
        let wrong = read("{sample: 2, without: [nothing]}").unwrap().check();
        assert_eq!((wrong.len(), &*wrong[1].path), (2, "access_log.without[0]"));
    }
}
