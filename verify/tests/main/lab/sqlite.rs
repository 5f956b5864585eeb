//! A SQLite file of one's own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bus::{
    Bus,
    sqlite::{Options, Sqlite},
};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{Setup, Stepping};

pub(crate) struct SqliteLab {
    pub(crate) folder: TempDir,
    pub(crate) clock: Stepping,
    steps: bool,
    bus: Mutex<Option<Bus>>,
}

impl SqliteLab {
    pub(super) fn open(setup: &Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("turnpike-verify-").tempdir().unwrap();
        Self { folder, clock: Stepping::default(), steps: setup.clock, bus: Mutex::default() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("bus.db")
    }

    /// This process's handle; opened anew if it was closed.
    pub(super) async fn node(&self) -> anyhow::Result<Bus> {
        if let Some(bus) = self.bus.lock().clone() {
            return Ok(bus);
        }
        let bus = testkit::eventually("the file is free", Duration::from_secs(30), async || {
            let mut options = Options::default();
            if self.steps {
                options.clock = Arc::new(self.clock.clone());
            }
            Sqlite::open(&self.path(), options).await.ok()
        })
        .await;
        let bus = Bus::new(bus);
        *self.bus.lock() = Some(bus.clone());
        Ok(bus)
    }

    /// Forgets the handle: the last one that goes closes the file.
    pub(crate) fn close(&self) {
        *self.bus.lock() = None;
    }

    pub(super) async fn housekeep(&self) -> anyhow::Result<()> {
        // Whatever is asked, the writer first does what is due.
        self.node().await?.groups().await?;
        Ok(())
    }
}
