//! Setting up logs and traces: once a process, before the first role is built.

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::Deserialize;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    resource::{SEVERAL_ROLES, Service},
    role::{ByRole, Inherit},
    sample::Roots,
};

/// What a process reports of itself, and where to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Lines at or above this level are written: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as
    /// `info,gateway=debug`.
    pub log: String,
    /// The OTLP/gRPC endpoint that gets the traces: `http://127.0.0.1:4317`. None: that of the environment
    /// (`OTEL_EXPORTER_OTLP_ENDPOINT`), else traces stay here.
    pub otlp_endpoint: Option<String>,
    /// The share of new traces that is recorded, 0 to 1; a caller's decision goes first. `OTEL_TRACES_SAMPLER_ARG` goes
    /// over it.
    pub sample_ratio: f64,
    /// What the process is called in traces and metrics: `turnpike-<role>` where it runs one. `turnpike`, the default,
    /// stands for several: the spans of each then have its own name all the same. `OTEL_SERVICE_NAME` goes over it.
    pub service: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { log: "info".to_owned(), otlp_endpoint: None, sample_ratio: 0.01, service: SEVERAL_ROLES.to_owned() }
    }
}

impl Config {
    /// The standard variables of OpenTelemetry, where this says nothing or they go over it. An empty one counts as none.
    fn with_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        if self.otlp_endpoint.is_none() {
            let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
            self.otlp_endpoint = endpoints.into_iter().find_map(&variable);
        }
        if let Some(ratio) = variable("OTEL_TRACES_SAMPLER_ARG") {
            self.sample_ratio = ratio.trim().parse().context("OTEL_TRACES_SAMPLER_ARG")?;
        }
        if let Some(name) = variable("OTEL_SERVICE_NAME") {
            self.service = name;
        }
        Ok(self)
    }
}

/// Holds the exporter. Call [`Telemetry::shutdown`] last: it sends what is still buffered.
pub struct Telemetry {
    tracer: Option<SdkTracerProvider>,
}

/// Installs the process's logger and tracer. Must run inside a tokio runtime where an OTLP endpoint is set.
///
/// # Errors
/// If the log filter or the OTLP endpoint doesn't parse, the sample ratio is not within 0 to 1, or a logger is installed.
pub fn init(config: &Config) -> anyhow::Result<Telemetry> {
    let config = config.clone().with_environment(|name| std::env::var(name).ok())?;
    anyhow::ensure!((0.0..=1.0).contains(&config.sample_ratio), "telemetry.sample_ratio: must be within 0 to 1");
    let filter = EnvFilter::try_new(&config.log).context("telemetry.log")?;
    let service = Service::new(&config.service).install();
    let tracer = match config.otlp_endpoint {
        Some(endpoint) => {
            let exporter = ByRole::new(endpoint, service).context("telemetry.otlp_endpoint")?;
            Some(
                SdkTracerProvider::builder()
                    .with_sampler(Sampler::ParentBased(Box::new(Roots::install(config.sample_ratio))))
                    // Before the exporter's own, so that it sees what is inherited.
                    .with_span_processor(Inherit::default())
                    .with_batch_exporter(exporter)
                    .build(),
            )
        }
        None => None,
    };
    // The exporter's own calls must not be traced: each export would cause the next.
    let traced = EnvFilter::new("info,opentelemetry=off,h2=off,tonic=off,hyper=off,tower=off");
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_filter(filter))
        .with(tracer.as_ref().map(|provider| {
            // Where in the code, on which thread: the logs say so to those who need it.
            tracing_opentelemetry::layer()
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_target(false)
                .with_tracer(provider.tracer(SEVERAL_ROLES))
                .with_filter(traced)
        }))
        .try_init()
        .context("telemetry is set up twice")?;
    Ok(Telemetry { tracer })
}

impl Telemetry {
    /// Sends the spans still buffered. Waits for the network: call it from a thread that may block.
    pub fn shutdown(self) {
        if let Some(tracer) = self.tracer
            && let Err(error) = tracer.shutdown()
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(config: Config, variables: &[(&str, &str)]) -> Config {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        config.with_environment(variable).unwrap()
    }

    #[test]
    fn the_standard_variables_are_heard() {
        let config = with(
            Config::default(),
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
                ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
                ("OTEL_SERVICE_NAME", "shop"),
            ],
        );
        assert_eq!(config.otlp_endpoint.as_deref(), Some("http://collector:4317"));
        assert_eq!((config.sample_ratio, config.service.as_str()), (0.25, "shop"));
    }

    #[test]
    fn an_endpoint_of_the_configuration_goes_first_and_an_empty_variable_is_none() {
        let own = Config { otlp_endpoint: Some("http://own:4317".to_owned()), ..Config::default() };
        let config = with(own, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://other:4317"), ("OTEL_SERVICE_NAME", "")]);
        assert_eq!(config.otlp_endpoint.as_deref(), Some("http://own:4317"));
        assert_eq!(config.service, SEVERAL_ROLES);
    }

    #[test]
    fn a_ratio_that_is_no_number_is_refused_by_name() {
        let refused = Config::default().with_environment(|name| name.ends_with("ARG").then(|| "often".to_owned()));
        assert!(format!("{:#}", refused.unwrap_err()).contains("OTEL_TRACES_SAMPLER_ARG"));
    }
}
