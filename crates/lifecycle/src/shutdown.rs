//! Stopping in steps: say that one leaves, finish what is open (drain), then drop it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Tells every part of a role when to stop. Clones speak of the same shutdown.
///
/// `leave` comes first, where there is time for it: serve on, but say that one isn't ready, so that whoever sends work sends
/// it elsewhere. Then `drain`: accept nothing new, finish what was started. `drop` ends the patience: return now.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    leave: CancellationToken,
    drain: CancellationToken,
    drop: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when nobody should send anything new. All of it is still served until the drain.
    pub fn leaving(&self) -> &CancellationToken {
        &self.leave
    }

    /// Cancelled when nothing new may be begun.
    pub fn draining(&self) -> &CancellationToken {
        &self.drain
    }

    /// Cancelled when what is still open must be dropped.
    pub fn dropping(&self) -> &CancellationToken {
        &self.drop
    }

    /// Leaves: serves on for `notice`, then begins the drain.
    pub fn leave(&self, notice: Duration, patience: Duration) {
        self.leave.cancel();
        let own = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(notice).await;
            own.begin(patience);
        });
    }

    /// Begins the drain; `patience` later everything is dropped.
    pub fn begin(&self, patience: Duration) {
        self.leave.cancel();
        self.drain.cancel();
        let drop = self.drop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            drop.cancel();
        });
    }

    /// Drops everything now.
    pub fn escalate(&self) {
        self.leave.cancel();
        self.drain.cancel();
        self.drop.cancel();
    }

    /// Begins the drain where somebody else ends it.
    pub fn drain(&self) {
        self.leave.cancel();
        self.drain.cancel();
    }

    /// For the parts of a role that has something to do before they drain: they do when the role says so. They are dropped
    /// with this one.
    pub fn part(&self) -> Self {
        Self { drain: CancellationToken::new(), ..self.child() }
    }

    /// A shutdown that ends with this one, and can be ended alone.
    pub fn child(&self) -> Self {
        Self { leave: self.leave.child_token(), drain: self.drain.child_token(), drop: self.drop.child_token() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_lies_between_drain_and_drop() {
        let shutdown = Shutdown::new();
        let child = shutdown.child();
        shutdown.begin(Duration::from_secs(5));
        assert!(child.draining().is_cancelled());
        tokio::time::sleep(Duration::from_millis(4_999)).await;
        assert!(!child.dropping().is_cancelled());
        child.dropping().cancelled().await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_serves_on_first() {
        let shutdown = Shutdown::new();
        shutdown.leave(Duration::from_secs(10), Duration::from_secs(30));
        assert!(shutdown.child().leaving().is_cancelled());
        tokio::time::sleep(Duration::from_millis(9_999)).await;
        assert!(!shutdown.draining().is_cancelled());
        let begun = tokio::time::Instant::now();
        shutdown.dropping().cancelled().await;
        assert!(shutdown.draining().is_cancelled());
        assert_eq!(begun.elapsed().as_secs(), 30);
    }

    #[tokio::test]
    async fn a_part_drains_when_its_role_says_so_and_is_dropped_in_any_case() {
        let shutdown = Shutdown::new();
        let part = shutdown.part();
        shutdown.drain();
        assert!(part.leaving().is_cancelled() && !part.draining().is_cancelled());
        part.drain();
        assert!(part.draining().is_cancelled() && !part.dropping().is_cancelled());
        shutdown.escalate();
        assert!(part.dropping().is_cancelled());
    }

    #[tokio::test]
    async fn a_child_ends_alone() {
        let shutdown = Shutdown::new();
        shutdown.child().escalate();
        assert!(!shutdown.draining().is_cancelled());
    }
}
