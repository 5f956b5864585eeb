//! What is told of each handling of a delivery: a span in the event's trace (OpenTelemetry's conventions for messaging), how
//! long the event had waited, and how long the handling took.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use events::Envelope;
use time::OffsetDateTime;
use tracing::{Instrument as _, Span, field::Empty};

use crate::{Delivery, Failure, Group, Handler, metrics::Handling};

/// A handler, watched.
pub(crate) struct Observed {
    handler: Arc<dyn Handler>,
    group: String,
    lease_seconds: f64,
    role: Option<&'static str>,
    metrics: Handling,
}

impl Observed {
    pub fn new(handler: Arc<dyn Handler>, group: &Group, role: Option<&'static str>) -> Self {
        let (group, lease_seconds) = (group.name.clone(), group.lease.as_secs_f64());
        let metrics = Handling::new(&group);
        Self { handler, group, lease_seconds, role, metrics }
    }

    /// A span an attempt, a child of what the envelope carries: the place where the event was created.
    fn span(&self, delivery: &Delivery, age_seconds: f64) -> Span {
        let envelope = &*delivery.envelope;
        let span = tracing::info_span!(
            parent: None,
            "process",
            otel.name = %format_args!("process {}", envelope.queue),
            otel.kind = "consumer",
            otel.status_code = Empty,
            otel.status_description = Empty,
            turnpike.role = self.role,
            messaging.system = "turnpike",
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = envelope.queue.as_str(),
            messaging.destination.partition.id = %delivery.partition,
            messaging.consumer.group.name = self.group,
            messaging.message.id = envelope.id,
            turnpike.event = envelope.event.as_str(),
            turnpike.subject = envelope.subject,
            turnpike.position = delivery.position,
            turnpike.attempt = delivery.attempt,
            turnpike.age_seconds = age_seconds,
            turnpike.lease_seconds = self.lease_seconds,
            error.type = Empty,
        );
        let parent = telemetry::TraceContext::of(envelope.traceparent.as_deref(), envelope.tracestate.as_deref());
        if let Some(parent) = parent {
            telemetry::set_parent(&span, &parent);
        }
        span
    }
}

#[async_trait]
impl Handler for Observed {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let age = age_seconds(&delivery.envelope);
        let mut attempt =
            Attempt { observed: self, began: Instant::now(), span: self.span(delivery, age), ended: false };
        self.metrics.waited(age);
        let done = self.handler.handle(delivery).instrument(attempt.span.clone()).await;
        match &done {
            Ok(()) | Err(Failure::Defer { .. }) => attempt.ended = true,
            Err(Failure::Retry { reason, .. }) => attempt.failed("retry", reason),
            Err(Failure::Dead { reason }) => attempt.failed("dead", reason),
        }
        done
    }
}

/// A handling under way. Dropped before its end, it was cut off: by a panic, by its patience, or by the end of the process.
struct Attempt<'a> {
    observed: &'a Observed,
    began: Instant,
    span: Span,
    ended: bool,
}

impl Attempt<'_> {
    fn failed(&mut self, kind: &str, reason: &str) {
        self.ended = true;
        self.span.record("otel.status_code", "ERROR");
        self.span.record("otel.status_description", reason);
        self.span.record("error.type", kind);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let (kind, reason) = match std::thread::panicking() {
                true => ("panic", "the handler panicked"),
                false => ("cancelled", "the handler was cancelled"),
            };
            self.failed(kind, reason);
        }
        self.observed.metrics.took(self.began.elapsed());
    }
}

/// How long ago the event was recorded.
fn age_seconds(envelope: &Envelope) -> f64 {
    let recorded = envelope.recordedtime.unwrap_or(envelope.time);
    (OffsetDateTime::now_utc() - recorded).as_seconds_f64().max(0.0)
}
