//! Work that a service does every so often.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::metrics::task_ran;

type Work = Box<dyn Fn() -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> + Send + Sync>;

/// Runs `work` every `period`, never twice at once. An error or a panic is logged and counted; the next run comes anyway.
pub(crate) struct Periodic {
    service: &'static str,
    name: &'static str,
    period: Duration,
    work: Work,
}

impl Periodic {
    pub fn new<F, Fut>(service: &'static str, name: &'static str, period: Duration, work: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self { service, name, period, work: Box::new(move || Box::pin(work())) }
    }

    /// Works until `drain`; a run that has begun is finished.
    pub async fn run(self, drain: CancellationToken) {
        let mut due = interval_at(Instant::now() + self.period, self.period);
        // A run that took longer than the period moves the others; it doesn't bunch them.
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.cancelled() => return,
                _ = due.tick() => self.once().await,
            }
        }
    }

    async fn once(&self) {
        // The call itself is inside, for it may panic before there is a future.
        let outcome = match AssertUnwindSafe(async { (self.work)().await }).catch_unwind().await {
            Ok(Ok(())) => "ok",
            Ok(Err(error)) => {
                tracing::error!(task = self.name, error = format!("{error:#}"), "a periodic task failed");
                "error"
            }
            Err(_) => {
                tracing::error!(task = self.name, "a periodic task panicked");
                "panic"
            }
        };
        task_ran(self.service, self.name, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[tokio::test(start_paused = true)]
    async fn runs_go_on_after_an_error_and_a_panic_and_never_overlap() {
        let (runs, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = {
            let (runs, open) = (Arc::clone(&runs), Arc::clone(&open));
            move || {
                let (runs, open) = (Arc::clone(&runs), Arc::clone(&open));
                async move {
                    assert_eq!(open.fetch_add(1, Ordering::SeqCst), 0, "two runs at once");
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                    match runs.fetch_add(1, Ordering::SeqCst) {
                        0 => anyhow::bail!("once"),
                        1 => panic!("twice"),
                        _ => Ok(()),
                    }
                }
            }
        };
        let drain = CancellationToken::new();
        let task = tokio::spawn(Periodic::new("test", "sweep", Duration::from_secs(1), work).run(drain.clone()));
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(open.load(Ordering::SeqCst), 0, "the first run comes after one period");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(runs.load(Ordering::SeqCst) >= 4);
        drain.cancel();
        task.await.unwrap();
        assert_eq!(open.load(Ordering::SeqCst), 0, "the last run was finished");
    }
}
