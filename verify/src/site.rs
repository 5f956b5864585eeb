//! Where the bus is that is looked at.

use async_trait::async_trait;
use bus::Bus;

/// A place with a bus of its own, empty at first: a scratch namespace, a file, a server that may be killed.
#[async_trait]
pub trait Site: Send + Sync {
    /// `redis` or `sqlite`.
    fn backend(&self) -> &'static str;

    /// One more node's handle on it; where one process alone may have it, one more handle in this one.
    ///
    /// # Errors
    /// If the bus is away.
    async fn node(&self) -> anyhow::Result<Bus>;

    /// Has the bus do now what it does from time to time otherwise, where it can be told to.
    ///
    /// # Errors
    /// If the bus is away.
    async fn housekeep(&self) -> anyhow::Result<()> {
        Ok(())
    }
}
