use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{action::duration, config::ConfigError};

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
    #[schemars(with = "Option<String>")]
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

impl Section {
    /// # Errors
    /// A share that is none, or a field that is not there.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        if !(0.0..=1.0).contains(&self.sample) {
            errors.push(ConfigError::new("access_log.sample", "must be within 0 and 1"));
        }
        for (at, name) in self.without.iter().enumerate() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default_and_what_can_not_be_is_refused() {
        let read = |text| serde_saphyr::from_str::<Section>(text);
        let section = read("{sample: 0.1, slower_than: 2s}").unwrap();
        assert_eq!((section.sample, section.slower_than, section.errors), (0.1, Some(Duration::from_secs(2)), true));
        assert!(read("{sampel: 1}").is_err());
        let wrong = read("{sample: 2, without: [nothing]}").unwrap().check();
        assert_eq!((wrong.len(), &*wrong[1].path), (2, "access_log.without[0]"));
    }
}
