//! Header fields that a route sets, adds and takes away: of the request before its action sees it, of the answer before
//! the client does. Problem documents stay as they are.
//!
//! What belongs to one connection, what says how long a body is, and what only the gateway may say of a caller is not to be
//! edited.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::ConfigError;

/// `{ set: { x-tenant: acme }, add: { vary: x-tenant }, remove: [server] }`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Edit")]
pub struct Config {
    /// Fields that get this value, whatever they had.
    pub set: BTreeMap<String, String>,
    /// Fields that get this value beside those they have.
    pub add: BTreeMap<String, String>,
    /// Fields that go.
    pub remove: Vec<String>,
}

/// The section, compiled.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

/// Not to be edited, on either side.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Of a request: what the gateway says of it itself.
const OWN: [&str; 9] = [
    "forwarded",
    "grpc-timeout",
    "traceparent",
    "tracestate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "idempotency-key",
];

impl Edit {
    /// # Errors
    /// What is no header field, or not to be edited.
    pub fn of_request(config: &Config) -> Result<Self, Vec<ConfigError>> {
        Self::new(config, |name| OWN.contains(&name) || name.starts_with("turnpike-"))
    }

    /// # Errors
    /// What is no header field, or not to be edited.
    pub fn of_response(config: &Config) -> Result<Self, Vec<ConfigError>> {
        Self::new(config, |name| name == "x-request-id")
    }

    fn new(config: &Config, is_own: impl Fn(&str) -> bool) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut name = |place: String, text: &str| match HeaderName::try_from(text) {
            Ok(name) if FRAMING.contains(&name.as_str()) || is_own(name.as_str()) => {
                errors.push(ConfigError::new(place, format!("`{name}` is the gateway's to write")));
                None
            }
            Ok(name) => Some(name),
            Err(_) => {
                errors.push(ConfigError::new(place, format!("`{text}` is not the name of a header")));
                None
            }
        };
        let remove: Vec<_> =
            config.remove.iter().enumerate().filter_map(|(at, text)| name(format!("remove[{at}]"), text)).collect();
        let mut values = Vec::new();
        for (section, fields) in [("set", &config.set), ("add", &config.add)] {
            let named =
                fields.iter().filter_map(|(text, value)| Some((name(format!("{section}.{text}"), text)?, value)));
            values.push((section, named.collect::<Vec<_>>()));
        }
        let mut made = Vec::new();
        for (section, fields) in values {
            let mut own = Vec::new();
            for (name, value) in fields {
                if remove.contains(&name) {
                    errors.push(ConfigError::new(format!("{section}.{name}"), "is also to be removed"));
                }
                match HeaderValue::try_from(value) {
                    Ok(value) => own.push((name, value)),
                    Err(_) => errors.push(ConfigError::new(format!("{section}.{name}"), "not the value of a header")),
                }
            }
            made.push(own);
        }
        let (add, set) = (made.pop().unwrap_or_default(), made.pop().unwrap_or_default());
        if errors.is_empty() { Ok(Self { set, add, remove }) } else { Err(errors) }
    }

    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }

    /// What it does, a fragment each.
    pub fn describe(&self) -> Vec<String> {
        let remove = self.remove.iter().map(|name| format!("removes {name}"));
        let set = self.set.iter().map(|(name, _)| format!("sets {name}"));
        remove.chain(set).chain(self.add.iter().map(|(name, _)| format!("adds {name}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn fields_are_removed_set_and_added() {
        let edit = Edit::of_response(&read("{set: {x-a: '2'}, add: {vary: x-b}, remove: [Server]}")).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "1"), ("vary", "origin"), ("server", "x")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        edit.apply(&mut headers);
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["2"]);
        assert_eq!(headers.get_all("vary").iter().collect::<Vec<_>>(), ["origin", "x-b"]);
        assert!(!headers.contains_key("server"));
    }

    #[test]
    fn what_is_the_gateways_own_is_not_to_be_edited() {
        let text = "{set: {turnpike-principal: me, x y: '1', x-a: \"a\\nb\", x-b: '1'}, add: {host: a}, \
                    remove: [Transfer-Encoding, x-forwarded-for, x-b]}";
        let errors = Edit::of_request(&read(text)).unwrap_err();
        let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
        let expected =
            ["remove[0]", "remove[1]", "set.turnpike-principal", "set.x y", "add.host", "set.x-a", "set.x-b"];
        assert_eq!(paths, expected);
        assert!(Edit::of_response(&read("{remove: [x-forwarded-for]}")).is_ok());
    }
}
