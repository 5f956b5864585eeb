//! Which of the traces that begin here are recorded. Who takes in requests by the thousand asks before it makes a span:
//! a span that is made only to be thrown away costs more than the rest of a request's way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Link, SpanKind, TraceId},
};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

/// The share of new traces that is recorded, as the bits of an `f64`.
static RATIO: AtomicU64 = AtomicU64::new(0);

/// Whether a trace that begins now shall be recorded. If so, its first span says so: `turnpike.sampled = true`. Never where
/// no traces are exported.
pub fn sample() -> bool {
    let ratio = f64::from_bits(RATIO.load(Relaxed));
    ratio > 0.0 && rand::random::<f64>() < ratio
}

/// Samples the roots of traces: as was decided already, else by the ratio.
#[derive(Clone, Debug)]
pub(crate) struct Roots(Sampler);

impl Roots {
    /// Takes effect for the whole process.
    pub fn install(ratio: f64) -> Self {
        RATIO.store(ratio.to_bits(), Relaxed);
        Self(Sampler::TraceIdRatioBased(ratio))
    }
}

impl ShouldSample for Roots {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let decided =
            |attribute: &KeyValue| attribute.key.as_str() == "turnpike.sampled" && attribute.value == Value::Bool(true);
        let sampler = if attributes.iter().any(decided) { &Sampler::AlwaysOn } else { &self.0 };
        sampler.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::SamplingDecision;

    use super::*;

    #[test]
    fn a_root_that_was_decided_on_is_recorded_whatever_the_ratio() {
        let roots = Roots(Sampler::TraceIdRatioBased(0.0));
        let decide = |attributes: &[KeyValue]| {
            roots.should_sample(None, TraceId::from(1), "request", &SpanKind::Server, attributes, &[]).decision
        };
        assert_eq!(decide(&[]), SamplingDecision::Drop);
        assert_eq!(decide(&[KeyValue::new("turnpike.sampled", true)]), SamplingDecision::RecordAndSample);
        assert!(!sample(), "nothing is exported here");
    }
}
