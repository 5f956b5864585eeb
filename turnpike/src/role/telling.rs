//! Telling who follows what in this process, beside what the process does.

use bus::Bus;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Tells who subscribes in this process and who stops, where that is asked for.
#[derive(Default)]
pub struct Telling(Option<(CancellationToken, JoinHandle<()>)>);

impl Telling {
    pub fn start(&mut self, bus: &Bus) {
        let over = CancellationToken::new();
        let (bus, told) = (bus.clone(), over.clone());
        self.0 = Some((over, tokio::spawn(async move { bus.tell_subscriptions(told).await })));
    }

    /// Everybody has left: that is told, too.
    pub async fn end(self) {
        if let Some((over, telling)) = self.0 {
            over.cancel();
            let _ = telling.await;
        }
    }
}
