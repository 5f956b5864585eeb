//! The process's meter and its text form. Instruments are made once and kept; on a hot path they are bound to their
//! labels once (`bind`), so that recording is an addition.

use std::sync::LazyLock;

pub use opentelemetry::metrics::Meter;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Encoder as _, Registry, TextEncoder};

use crate::{process, resource::Service};

/// Upper bounds of latency histograms, in seconds.
pub const LATENCY_BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics that have more series than the 2,000 which others may have: one a route, method and class of status. The
/// gateway bounds the number of routes itself.
const MANY: &str = "turnpike_gateway_request";
const SERIES: usize = 50_000;

struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
}

// The registry is the process's: several roles in one process add to the same families, as a scrape expects.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let registry = Registry::new();
    let builder = SdkMeterProvider::builder().with_resource(Service::installed().resource(None)).with_view(
        |instrument: &Instrument| {
            let many = instrument.name().starts_with(MANY);
            many.then(|| Stream::builder().with_cardinality_limit(SERIES).build().ok()).flatten()
        },
    );
    let provider =
        match opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false).build() {
            Ok(exporter) => builder.with_reader(exporter).build(),
            Err(error) => {
                tracing::error!(%error, "metrics are off");
                builder.build()
            }
        };
    Metrics { registry, provider }
});

/// The meter of a crate. Names start with `turnpike_` and follow `turnpike_noun_unit`; counters get `_total` when
/// rendered.
pub fn meter(scope: &'static str) -> Meter {
    METRICS.provider.meter(scope)
}

/// Every metric in the Prometheus text format.
pub fn render() -> String {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&METRICS.registry.gather(), &mut text) {
        Ok(()) => String::from_utf8_lossy(&text).into_owned() + &process::render(),
        Err(error) => {
            tracing::error!(%error, "metrics can't be rendered");
            String::new()
        }
    }
}
