//! Setting up logs and traces: once a process, before the first role is built.

use anyhow::Context as _;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use serde::Deserialize;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::sample::Roots;

/// What a process reports of itself, and where to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Lines at or above this level are written: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as
    /// `info,gateway=debug`.
    pub log: String,
    /// The OTLP/gRPC endpoint that gets the traces: `http://127.0.0.1:4317`. None: traces stay here.
    pub otlp_endpoint: Option<String>,
    /// The share of new traces that is recorded, 0 to 1; a caller's decision goes first.
    pub sample_ratio: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { log: "info".to_owned(), otlp_endpoint: None, sample_ratio: 0.01 }
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
    anyhow::ensure!((0.0..=1.0).contains(&config.sample_ratio), "telemetry.sample_ratio: must be within 0 to 1");
    let filter = EnvFilter::try_new(&config.log).context("telemetry.log")?;
    let tracer = match &config.otlp_endpoint {
        Some(endpoint) => {
            let exporter = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .context("telemetry.otlp_endpoint")?;
            Some(
                SdkTracerProvider::builder()
                    .with_resource(resource())
                    .with_sampler(Sampler::ParentBased(Box::new(Roots::install(config.sample_ratio))))
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
            tracing_opentelemetry::layer().with_tracer(provider.tracer("turnpike")).with_filter(traced)
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

pub(crate) fn resource() -> Resource {
    Resource::builder()
        .with_service_name("turnpike")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}
