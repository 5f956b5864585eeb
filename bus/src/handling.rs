//! One handling of a delivery: with an end to its patience, a panic caught, and the group known to whatever it calls.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;

use crate::{
    Delivery, Failure, Handler, Verb,
    broken::{Promise, is_broken},
};

tokio::task_local! {
    static GROUP: Arc<str>;
}

/// The group in whose handler this is, if it is in one.
pub(crate) fn group() -> Option<Arc<str>> {
    GROUP.try_with(Arc::clone).ok()
}

/// Runs the handler; what to settle the delivery with.
pub(crate) async fn handle(handler: Arc<dyn Handler>, delivery: Delivery, patience: Option<Duration>) -> Verb {
    if is_broken(Promise::EffectBeforeAck) {
        drop(tokio::spawn(async move { handler.handle(&delivery).await.is_ok() }));
        return Verb::Ack;
    }
    let work = GROUP.scope(delivery.group.clone(), handler.handle(&delivery));
    let work = AssertUnwindSafe(work).catch_unwind();
    let patience = patience.unwrap_or(Duration::MAX);
    match tokio::time::timeout(patience, work).await {
        Ok(Ok(Ok(()))) => Verb::Ack,
        Ok(Ok(Err(Failure::Retry { reason, delay }))) => Verb::Nack { delay, reason, retryable: true },
        Ok(Ok(Err(Failure::Defer { delay }))) => Verb::Defer { delay },
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
