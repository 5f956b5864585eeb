//! Somebody who follows, and an instance that can be killed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use registry::{Announcement, Instance, Registry, Standing};
use tokio::{runtime::Runtime, sync::watch, task::AbortHandle, time::timeout};

pub const BOUND: Duration = Duration::from_secs(30);

/// Follows a service and remembers the fewest instances that it ever knew of.
pub struct Following {
    standing: watch::Receiver<Standing>,
    fewest: Arc<parking_lot::Mutex<usize>>,
    task: AbortHandle,
}

impl Following {
    pub fn new(registry: &Registry, service: &str) -> Self {
        let follower = registry.follow(service).unwrap();
        let (told, standing) = watch::channel(Standing::default());
        let fewest = Arc::new(parking_lot::Mutex::new(usize::MAX));
        let counted = Arc::clone(&fewest);
        let task = tokio::spawn(async move {
            follower
                .run(|standing| {
                    let mut fewest = counted.lock();
                    *fewest = standing.instances.len().min(*fewest);
                    told.send_replace(standing);
                })
                .await
        });
        Self { standing, fewest, task: task.abort_handle() }
    }

    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Waits until what is known fulfils a condition. Returns how long that took.
    pub async fn until(&mut self, what: &str, holds: impl FnMut(&Standing) -> bool) -> Duration {
        let began = Instant::now();
        let waited = timeout(BOUND, self.standing.wait_for(holds)).await;
        assert!(waited.is_ok(), "not within {BOUND:?}: {what}");
        began.elapsed()
    }

    pub async fn until_known(&mut self, addresses: &[&str]) -> Duration {
        self.until(&format!("{addresses:?} are known"), |standing| {
            standing.instances.iter().map(|instance| instance.address.as_str()).eq(addresses.iter().copied())
        })
        .await
    }

    /// From here on.
    pub fn count_anew(&self) {
        *self.fewest.lock() = usize::MAX;
    }

    pub fn fewest(&self) -> usize {
        *self.fewest.lock()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An instance on a runtime of its own, as a process has it.
pub struct Process {
    runtime: Option<Runtime>,
    announcement: Option<Announcement>,
}

impl Process {
    pub fn announcing(registry: &Registry, service: &str, instance: Instance) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let announcement = registry.announce(service, instance).unwrap();
        drop(entered);
        Self { runtime: Some(runtime), announcement: Some(announcement) }
    }

    pub fn announcement(&self) -> &Announcement {
        self.announcement.as_ref().unwrap()
    }

    /// As kill -9 does: nothing is said.
    pub fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub async fn leave(mut self) {
        self.announcement.take().unwrap().leave().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
