//! Dispatchers between a real Mosquitto and a real bus.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod device;
mod mapping;
mod order;
mod outage;
mod reach;

use std::{path::Path, time::Duration};

use bus::Bus;
use events::{Data, Envelope, Name};
use lifecycle::{Role as _, Shutdown};
use mqtt::{Config, Settings};
use serde_json::Value;
use testkit::eventually;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(60);

/// A dispatcher at work.
struct Running {
    shutdown: Shutdown,
    work: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(bus: &Bus, settings: &Settings) -> Self {
        let dispatcher = mqtt::build(Config { bus: bus.clone(), settings: settings.clone() }).unwrap();
        let shutdown = Shutdown::new();
        let work = tokio::spawn(Box::new(dispatcher).run(shutdown.clone()));
        Self { shutdown, work }
    }

    /// As kill -9 would: nobody is told.
    async fn kill(self) {
        self.work.abort();
        assert!(self.work.await.unwrap_err().is_cancelled());
    }

    async fn drain(self) {
        self.shutdown.begin(SOON);
        self.work.await.unwrap().unwrap();
    }
}

fn settings(url: &str, mappings: &str) -> Settings {
    let mut settings: Settings = serde_json::from_str(mappings).unwrap();
    url.clone_into(&mut settings.url);
    settings
}

async fn sqlite(folder: &Path) -> Bus {
    bus::sqlite::open(&folder.join("bus.db")).await.unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// What a queue holds, in its order; one partition.
async fn recorded(bus: &Bus, queue: &str) -> Vec<Envelope> {
    let page = bus.read(&name(queue), 0, 1, 1000).await.unwrap();
    page.events.iter().map(|event| Envelope::clone(&event.envelope)).collect()
}

/// The same once there are so many.
async fn comes_to(bus: &Bus, queue: &str, count: usize) -> Vec<Envelope> {
    eventually(&format!("{queue} holds {count}"), SOON, async || {
        let recorded = recorded(bus, queue).await;
        (recorded.len() >= count).then_some(recorded)
    })
    .await
}

fn json(event: &Envelope) -> &Value {
    match &event.data {
        Some(Data::Json(value)) => value,
        other => panic!("{other:?}"),
    }
}
