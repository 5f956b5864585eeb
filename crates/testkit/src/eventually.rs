use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// Polls `condition` until it gives something, at most for `bound`: every 10 ms first, later every second, since what is
/// asked may count how often.
///
/// # Panics
/// After `bound`, with `what` was waited for.
pub async fn eventually<T, F, Fut>(what: &str, bound: Duration, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let end = Instant::now() + bound;
    let mut pause = Duration::from_millis(10);
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {bound:?}: {what}");
        sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_secs(1));
    }
}
