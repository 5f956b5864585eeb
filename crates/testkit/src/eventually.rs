use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// Polls `condition` until it gives something, at most for `bound`.
///
/// # Panics
/// After `bound`, with `what` was waited for.
pub async fn eventually<T, F, Fut>(what: &str, bound: Duration, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + bound;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {bound:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
