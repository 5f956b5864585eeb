//! The settings of `up`; `deploy/up.yaml` is their commented reference and holds the defaults.

use std::time::Duration;

use gateway::action::duration;
use serde::Deserialize;

use super::{Fault, Group, role::Check, telemetry_faults};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub telemetry: telemetry::Config,
    pub consumers: Consumers,
    pub orders: Orders,
    /// Whom the notifier tells of what.
    pub notifications: notifier::Rules,
    /// The MQTT broker that the dispatcher stands between; None: there is no dispatcher.
    pub mqtt: Option<mqtt::Settings>,
    /// Events that make jobs.
    pub jobs: Vec<broker::JobSource>,
    /// Channels of a Redis whose messages become events.
    pub bridge: Option<broker::BridgeConfig>,
    /// Whether `SYS` is told who follows what, and who stops.
    pub tell_subscriptions: bool,
}

/// How each group of consumers works.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Consumers {
    pub placement: Group,
    pub invoice: Group,
    pub catalogue: Group,
    pub logger: Group,
    pub notifier: Group,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Orders {
    /// An order that is pending for longer is rejected, unless its invoice was asked for.
    #[serde(deserialize_with = "duration::deserialize")]
    pub pending_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        // The demo records every trace; a collector may not be there.
        let telemetry = telemetry::Config { sample_ratio: 1.0, ..telemetry::Config::default() };
        Self {
            telemetry,
            consumers: Consumers::default(),
            orders: Orders::default(),
            notifications: notifier::Rules::default(),
            mqtt: None,
            jobs: Vec::new(),
            bridge: None,
            tell_subscriptions: false,
        }
    }
}

impl Default for Consumers {
    fn default() -> Self {
        Self {
            placement: Group::awaited(),
            invoice: Group::awaited(),
            catalogue: Group::default(),
            logger: Group::storing(),
            notifier: Group::storing(),
        }
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self { pending_limit: Duration::from_secs(120) }
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
            "notifier" => self.notifier,
            _ => return None,
        };
        Some(group.pace())
    }
}

impl super::Settings for Settings {
    const REFERENCE: &str = include_str!("../../../deploy/up.yaml");

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        telemetry_faults(&self.telemetry, "telemetry", &mut faults);
        let Consumers { placement, invoice, catalogue, logger, notifier } = &self.consumers;
        for (name, group) in [
            ("placement", placement),
            ("invoice", invoice),
            ("catalogue", catalogue),
            ("logger", logger),
            ("notifier", notifier),
        ] {
            group.faults(&format!("consumers.{name}"), &mut faults);
        }
        Check::check(&self.notifications, "notifications", &mut faults);
        if let Some(mqtt) = &self.mqtt {
            Check::check(mqtt, "mqtt", &mut faults);
        }
        Check::check(&self.jobs, "jobs", &mut faults);
        Check::check(&self.bridge, "bridge", &mut faults);
        if self.orders.pending_limit < Duration::from_secs(1) {
            let message = "must be at least 1s".to_owned();
            faults.push(Fault { path: "orders.pending_limit".to_owned(), message });
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{super::read, *};

    fn with(text: &str, variables: &[(&str, &str)]) -> Result<Settings, Vec<Fault>> {
        let environment: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read(text, &environment)
    }

    #[test]
    fn the_reference_file_holds_the_defaults() {
        let reference = with(<Settings as super::super::Settings>::REFERENCE, &[]).unwrap();
        assert_eq!(format!("{reference:?}"), format!("{:?}", Settings::default()));
    }

    #[test]
    fn every_fault_is_found_with_its_path() {
        let text = "consumers:\n  placement: {lease: 5s, handling: 20s}\n  logger: {concurrency: 0}\ntelemetry: \
                    {sample_ratio: 2}\n";
        let faults: Vec<String> = with(text, &[]).unwrap_err().iter().map(Fault::to_string).collect();
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
        let text = "consumers:\n  logger: {concurrency: 3}\n";
        let settings = with(
            text,
            &[
                ("TURNPIKE__CONSUMERS__LOGGER__LEASE", "1m"),
                ("TURNPIKE__TELEMETRY__SAMPLE_RATIO", "0.5"),
                ("TURNPIKE__TELEMETRY__LOG", "warn"),
                ("TURNPIKE__PORT", "8080"),
                ("HOME", "/"),
            ],
        )
        .unwrap();
        assert_eq!(settings.consumers.logger.lease, Duration::from_secs(60));
        assert_eq!(settings.consumers.logger.concurrency, 3);
        assert_eq!((settings.telemetry.sample_ratio, settings.telemetry.log.as_str()), (0.5, "warn"));
    }

    #[test]
    fn a_variable_that_names_no_setting_is_refused_by_its_name() {
        let faults = with("", &[("TURNPIKE__CONSUMERS__LOGER__LEASE", "1m")]).unwrap_err();
        assert!(faults[0].to_string().starts_with("TURNPIKE__CONSUMERS__LOGER__LEASE: "), "{faults:?}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let faults = with("consumers:\n  placment: {}\n", &[]).unwrap_err();
        assert!(faults[0].to_string().contains("placment") && faults[0].to_string().contains("line 2"), "{faults:?}");
    }
}
