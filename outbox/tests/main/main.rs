//! The relay between real databases and a real bus.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod append;
mod away;
mod crash;
mod flush;
mod growth;
mod journal;
mod lease;
mod lineage;
mod order;
mod paused;
mod restored;

use std::{path::PathBuf, time::Duration};

use bus::Bus;
use database::{Database, Migration, Url, params};
use events::{Envelope, Name};
use outbox::{Event, Relay};
use serde_json::json;
use tempfile::TempDir;
use testkit::{Postgres, eventually};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SOURCE: &str = "/services/product";
const SOON: Duration = Duration::from_secs(20);

const PRODUCT: Migration = Migration {
    version: 2,
    name: "product",
    sql: "CREATE TABLE product (id TEXT PRIMARY KEY, version BIGINT NOT NULL);",
};

/// A service's database and the bus, and where both are.
struct Shop {
    folder: TempDir,
    postgres: Option<Postgres>,
}

impl Shop {
    async fn every() -> [Self; 2] {
        let shop = |postgres| Self { folder: tempfile::tempdir().unwrap(), postgres };
        [shop(None), shop(Some(testkit::postgres().await))]
    }

    fn url(&self) -> Url {
        match &self.postgres {
            Some(server) => Url(server.url()),
            None => Url::sqlite(self.folder.path().join("product.db")),
        }
    }

    async fn database(&self) -> Database {
        Database::open(&self.url(), "product", &[outbox::migration(1), PRODUCT]).await.unwrap()
    }

    fn bus_file(&self) -> PathBuf {
        self.folder.path().join("bus.db")
    }

    async fn bus(&self) -> Bus {
        open_bus(self.bus_file()).await
    }
}

/// Opens a bus, which whoever had it open may be about to close.
async fn open_bus(file: PathBuf) -> Bus {
    eventually("the bus is free", SOON, async || bus::sqlite::open(&file).await.ok()).await
}

/// A relay that works until it is dropped, as if it had died, or drained.
struct Working {
    drain: CancellationToken,
    relay: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Working {
    fn start(relay: Relay) -> Self {
        let drain = CancellationToken::new();
        let relay = Some(tokio::spawn(relay.run(drain.clone())));
        Self { drain, relay }
    }

    async fn drain(mut self) {
        self.drain.cancel();
        self.relay.take().unwrap().await.unwrap().unwrap();
    }

    async fn kill(mut self) {
        let relay = self.relay.take().unwrap();
        relay.abort();
        let _ = relay.await;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(relay) = &self.relay {
            relay.abort();
        }
    }
}

/// Sets the product's version one up and tells so, in one transaction.
async fn update(database: &Database, id: &str) {
    let mut tx = database.begin().await.unwrap();
    let rows = tx
        .query(
            "INSERT INTO product (id, version) VALUES ($1, 1)
             ON CONFLICT (id) DO UPDATE SET version = product.version + 1 RETURNING version",
            params![id],
        )
        .await
        .unwrap();
    let version: i64 = rows[0].get("version").unwrap();
    let event = Event::new("DB/UPDATE", format!("products/{id}"), json!({ "version": version }));
    outbox::append(&mut tx, SOURCE, event).await.unwrap();
    tx.commit().await.unwrap();
}

/// Everything that the queue `DB` holds, in order.
async fn log(bus: &Bus) -> Vec<Envelope> {
    let (queue, mut events) = (Name::new("DB").unwrap(), Vec::new());
    let count = bus.partition(&queue, "").await.unwrap().count;
    for partition in 0..count {
        let mut from = 1;
        loop {
            let page = bus.read(&queue, partition, from, 500).await.unwrap();
            let Some(last) = page.events.last() else { break };
            from = last.position + 1;
            events.extend(page.events.iter().map(|logged| logged.envelope.as_ref().clone()));
        }
    }
    events
}

/// Waits until the queue holds that many events.
async fn logged(bus: &Bus, events: usize) -> Vec<Envelope> {
    let enough = async || Some(log(bus).await).filter(|log| log.len() >= events);
    let log = eventually("the events are on the bus", SOON, enough).await;
    assert_eq!(log.len(), events, "each once");
    log
}

/// Waits until nothing is left to publish.
async fn all_sent(database: &Database) {
    eventually("the outbox is empty", SOON, async || {
        let rows = database.query("SELECT seq FROM outbox WHERE sent_at IS NULL LIMIT 1", &[]).await.unwrap();
        rows.is_empty().then_some(())
    })
    .await;
}

fn versions(log: &[Envelope], id: &str) -> Vec<i64> {
    let subject = format!("products/{id}");
    let of_product = log.iter().filter(|event| event.subject.as_deref() == Some(&subject));
    of_product.map(|event| event.json().unwrap()["version"].as_i64().unwrap()).collect()
}
