//! The settings of `up`; `deploy/up.yaml` is their commented reference and holds the defaults.

use std::{fmt, time::Duration};

use gateway::action::duration;
use serde::Deserialize;
use serde_json::{Map, Value};

const PREFIX: &str = "TURNPIKE__";
const KEYS: [&str; 3] = ["telemetry:", "consumers:", "orders:"];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub telemetry: telemetry::Config,
    pub consumers: Consumers,
    pub orders: Orders,
}

/// How each group of consumers works.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consumers {
    pub placement: Group,
    pub invoice: Group,
    pub catalogue: Group,
    pub logger: Group,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// How long an event is lent to a consumer that doesn't ask for more time; 1 s to 12 h.
    #[serde(deserialize_with = "duration::deserialize")]
    pub lease: Duration,
    /// The longest one handling may take; then it is cancelled and tried again later. Not longer than the lease, so that
    /// a consumer cut off from the bus ends before its event is lent to another.
    #[serde(deserialize_with = "duration::deserialize")]
    pub handling: Duration,
    /// How many events are handled at once; 1 to 1,000.
    pub concurrency: usize,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Orders {
    /// An order that is pending for longer is rejected, unless its invoice was asked for.
    #[serde(deserialize_with = "duration::deserialize")]
    pub pending_limit: Duration,
}

/// A fault in the settings, with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    path: String,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        // The demo records every trace; a collector may not be there.
        let telemetry = telemetry::Config { sample_ratio: 1.0, ..telemetry::Config::default() };
        Self { telemetry, consumers: Consumers::default(), orders: Orders::default() }
    }
}

impl Default for Consumers {
    fn default() -> Self {
        // Somebody waits for what a killed process held: an order is lent for less time.
        let awaited = Group { lease: Duration::from_secs(10), handling: Duration::from_secs(10), ..Group::default() };
        let logger = Group { concurrency: 8, ..Group::default() };
        Self { placement: awaited, invoice: awaited, catalogue: Group::default(), logger }
    }
}

impl Default for Group {
    fn default() -> Self {
        Self { lease: Duration::from_secs(30), handling: Duration::from_secs(20), concurrency: 64 }
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self { pending_limit: Duration::from_secs(120) }
    }
}

/// Sets what stands at a path of keys, and makes the sections above it.
fn put(tree: &mut Value, keys: &[&str], value: Value) {
    match keys {
        [] => *tree = value,
        [key, rest @ ..] => {
            if !tree.is_object() {
                *tree = Value::Object(Map::new());
            }
            if let Value::Object(section) = tree {
                put(section.entry(*key).or_insert(Value::Null), rest, value);
            }
        }
    }
}

impl Consumers {
    /// The pace of a role's consumers, if it has any.
    pub fn of(&self, role: &str) -> Option<bus::Pace> {
        let group = match role {
            "order" => self.placement,
            "invoice" => self.invoice,
            "cart" => self.catalogue,
            "logger" => self.logger,
            _ => return None,
        };
        Some(bus::Pace { lease: group.lease, max_processing: group.handling, concurrency: group.concurrency })
    }
}

impl Settings {
    /// Whether a file holds these settings rather than a gateway's configuration.
    pub fn looks_like(text: &str) -> bool {
        text.lines().any(|line| KEYS.iter().any(|key| line.starts_with(key)))
    }

    /// # Errors
    /// Everything that is wrong with them.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        Self::parse_with(text, [])
    }

    /// The same, with `TURNPIKE__SECTION__KEY` variables over what the text says:
    /// `TURNPIKE__CONSUMERS__LOGGER__LEASE=1m`. Variables of other sections are not settings and left alone.
    ///
    /// # Errors
    /// Everything that is wrong with them; a variable that names no setting.
    pub fn parse_with(text: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<Fault>> {
        let whole = |error: &dyn fmt::Display| vec![Fault { path: String::new(), message: error.to_string() }];
        // Read as settings first: only this reading knows the lines.
        let mut settings: Self = serde_saphyr::from_str(text).map_err(|error| whole(&error))?;
        let mut tree: Value = serde_saphyr::from_str(text).map_err(|error| whole(&error))?;
        for (name, value) in variables {
            let Some(path) = name.strip_prefix(PREFIX).map(str::to_lowercase) else { continue };
            let keys: Vec<&str> = path.split("__").collect();
            if !KEYS.iter().any(|key| key.strip_suffix(':') == keys.first().copied()) {
                continue;
            }
            put(&mut tree, &keys, serde_saphyr::from_str(&value).unwrap_or(Value::String(value)));
            settings = serde_json::from_value(tree.clone())
                .map_err(|error| vec![Fault { path: name, message: error.to_string() }])?;
        }
        let faults = settings.faults();
        if faults.is_empty() { Ok(settings) } else { Err(faults) }
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |path: String, message: String| faults.push(Fault { path, message });
        if !(0.0..=1.0).contains(&self.telemetry.sample_ratio) {
            fault("telemetry.sample_ratio".to_owned(), "must be within 0 to 1".to_owned());
        }
        let Consumers { placement, invoice, catalogue, logger } = &self.consumers;
        for (name, group) in
            [("placement", placement), ("invoice", invoice), ("catalogue", catalogue), ("logger", logger)]
        {
            let path = |field: &str| format!("consumers.{name}.{field}");
            if !(Duration::from_secs(1)..=Duration::from_secs(12 * 3600)).contains(&group.lease) {
                fault(path("lease"), "must be within 1s to 12h".to_owned());
            }
            if group.handling.is_zero() {
                fault(path("handling"), "must be longer than nothing".to_owned());
            }
            if group.lease < group.handling {
                let (lease, handling) = (group.lease, group.handling);
                fault(path("lease"), format!("{lease:?} is shorter than the handling's {handling:?}"));
            }
            if !(1..=1_000).contains(&group.concurrency) {
                fault(path("concurrency"), "must be within 1 to 1000".to_owned());
            }
        }
        if self.orders.pending_limit < Duration::from_secs(1) {
            fault("orders.pending_limit".to_owned(), "must be at least 1s".to_owned());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_file_holds_the_defaults() {
        let reference = Settings::parse(include_str!("../../../deploy/up.yaml")).unwrap();
        assert_eq!(format!("{reference:?}"), format!("{:?}", Settings::default()));
    }

    #[test]
    fn every_fault_is_found_with_its_path() {
        let text = "consumers:\n  placement: {lease: 5s, handling: 20s}\n  logger: {concurrency: 0}\ntelemetry: \
                    {sample_ratio: 2}\n";
        let faults: Vec<String> = Settings::parse(text).unwrap_err().iter().map(Fault::to_string).collect();
        assert_eq!(
            faults,
            [
                "telemetry.sample_ratio: must be within 0 to 1",
                "consumers.placement.lease: 5s is shorter than the handling's 20s",
                "consumers.logger.concurrency: must be within 1 to 1000",
            ]
        );
    }

    #[test]
    fn a_variable_goes_over_what_the_file_says() {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let text = "consumers:\n  logger: {concurrency: 3}\n";
        let settings = Settings::parse_with(
            text,
            [
                variable("TURNPIKE__CONSUMERS__LOGGER__LEASE", "1m"),
                variable("TURNPIKE__TELEMETRY__SAMPLE_RATIO", "0.5"),
                variable("TURNPIKE__TELEMETRY__LOG", "warn"),
                variable("TURNPIKE__PORT", "8080"),
                variable("HOME", "/"),
            ],
        )
        .unwrap();
        assert_eq!(settings.consumers.logger.lease, Duration::from_secs(60));
        assert_eq!(settings.consumers.logger.concurrency, 3);
        assert_eq!((settings.telemetry.sample_ratio, settings.telemetry.log.as_str()), (0.5, "warn"));
    }

    #[test]
    fn a_variable_that_names_no_setting_is_refused_by_its_name() {
        let variable = ("TURNPIKE__CONSUMERS__LOGER__LEASE".to_owned(), "1m".to_owned());
        let faults = Settings::parse_with("", [variable]).unwrap_err();
        assert!(faults[0].to_string().starts_with("TURNPIKE__CONSUMERS__LOGER__LEASE: "), "{faults:?}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let faults = Settings::parse("consumers:\n  placment: {}\n").unwrap_err();
        assert!(faults[0].to_string().contains("placment") && faults[0].to_string().contains("line 2"), "{faults:?}");
    }
}
