//! An event's spans on its way to the bus, in the trace of what made it (OpenTelemetry's conventions for messaging).
//! `create`, where it is appended, is what the event carries along: consumers' spans are its children. `send` is the
//! relay's publish, once a try; each event has its own, for a batch holds events of many traces.

use database::Transaction;
use events::Envelope;
use telemetry::TraceContext;
use tracing::{Span, field::Empty};

/// What the event is to carry along: the place of its own span, or where nothing is recorded that of whoever appends it.
pub(crate) fn create(tx: &Transaction, source: &str, envelope: &Envelope) -> Option<TraceContext> {
    if !telemetry::is_recording() {
        return telemetry::current();
    }
    let within = if tx.span().is_none() { &Span::current() } else { tx.span() };
    let span = tracing::info_span!(
        parent: within,
        "create",
        otel.name = %format_args!("create {}", envelope.queue),
        otel.kind = "producer",
        turnpike.role = role(source),
        messaging.system = "turnpike",
        messaging.operation.name = "create",
        messaging.operation.type = "create",
        messaging.destination.name = envelope.queue.as_str(),
        messaging.message.id = envelope.id,
        turnpike.event = envelope.event.as_str(),
        turnpike.subject = envelope.subject,
    );
    telemetry::of_span(&span)
}

/// The spans of a publish, one for each event whose trace is recorded.
pub(crate) struct Send(Vec<Span>);

impl Send {
    pub fn begin<'a>(partition: u32, envelopes: impl Iterator<Item = &'a Envelope>) -> Self {
        Self(envelopes.filter_map(|envelope| send(partition, envelope)).collect())
    }

    pub fn failed(&self, kind: &str) {
        for span in &self.0 {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", kind);
        }
    }
}

fn send(partition: u32, envelope: &Envelope) -> Option<Span> {
    let trace = TraceContext::of(envelope.traceparent.as_deref(), envelope.tracestate.as_deref())?;
    if !trace.sampled {
        return None;
    }
    let span = tracing::info_span!(
        parent: None,
        "send",
        otel.name = %format_args!("send {}", envelope.queue),
        // Not a producer: that is where the event was created, and its consumers hang on that span.
        otel.kind = "client",
        otel.status_code = Empty,
        turnpike.role = role(&envelope.source),
        messaging.system = "turnpike",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = envelope.queue.as_str(),
        messaging.destination.partition.id = %partition,
        messaging.message.id = envelope.id,
        turnpike.event = envelope.event.as_str(),
        turnpike.outbox.age_seconds = age(envelope),
        error.type = Empty,
    );
    telemetry::set_parent(&span, &trace);
    Some(span)
}

/// How long the event waited for the relay.
fn age(envelope: &Envelope) -> f64 {
    (time::OffsetDateTime::now_utc() - envelope.time).as_seconds_f64().max(0.0)
}

/// `/services/order` is the role `order`.
fn role(source: &str) -> &str {
    source.rsplit('/').next().unwrap_or(source)
}
