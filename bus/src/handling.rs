//! One handling of a delivery: in its span, with an end to its patience, a panic caught.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tracing::Instrument as _;

use crate::{Delivery, Failure, Handler, Verb};

/// Runs the handler; what to settle the delivery with.
pub(crate) async fn handle(handler: Arc<dyn Handler>, delivery: Delivery, patience: Duration) -> Verb {
    let span = span(&delivery);
    let work = AssertUnwindSafe(handler.handle(&delivery)).catch_unwind().instrument(span);
    match tokio::time::timeout(patience, work).await {
        Ok(Ok(Ok(()))) => Verb::Ack,
        Ok(Ok(Err(Failure::Retry { reason, delay }))) => Verb::Nack { delay, reason, retryable: true },
        Ok(Ok(Err(Failure::Dead { reason }))) => Verb::Dead { reason },
        Ok(Err(panic)) => retry(format!("the handler panicked: {}", message(panic.as_ref()))),
        Err(_) => {
            delivery.cancelled.cancel();
            retry(format!("the handler took longer than {patience:?}"))
        }
    }
}

fn retry(reason: String) -> Verb {
    Verb::Nack { delay: None, reason, retryable: true }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a message",
    }
}

fn span(delivery: &Delivery) -> tracing::Span {
    let envelope = &delivery.envelope;
    let span = tracing::info_span!(
        "process",
        otel.name = format!("{} process", envelope.queue),
        otel.kind = "consumer",
        messaging.system = "turnpike",
        messaging.destination.name = envelope.queue.as_str(),
        messaging.message.id = envelope.id,
        event = envelope.event.as_str(),
        attempt = delivery.attempt,
    );
    if let Some(parent) = envelope.traceparent.as_deref().and_then(telemetry::TraceContext::parse) {
        telemetry::set_parent(&span, &parent);
    }
    span
}
