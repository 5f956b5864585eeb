//! The suite on the SQLite backend, and what only that promises.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{
    Bus, Consumer, Delivery, Error, Failure, Group, Handler, Mode,
    sqlite::{Options, Sqlite},
};
use parking_lot::Mutex;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::conformance::{self, Lab, event};

mod reopening;

conformance::suite!(crate::sqlite::SqliteLab::open);

/// A clock that moves when told.
#[derive(Clone)]
struct Manual(Arc<Mutex<OffsetDateTime>>);

impl bus::Clock for Manual {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock()
    }
}

struct SqliteLab {
    folder: TempDir,
    clock: Manual,
    bus: Bus,
}

impl SqliteLab {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Manual(Arc::new(Mutex::new(OffsetDateTime::now_utc())));
        let bus = open(&folder.path().join("bus.db"), &clock).await;
        Self { folder, clock, bus }
    }
}

async fn open(path: &Path, clock: &Manual) -> Bus {
    let options = Options { clock: Arc::new(clock.clone()), ..Options::default() };
    Bus::new(Sqlite::open(path, options).await.unwrap())
}

#[async_trait]
impl Lab for SqliteLab {
    fn bus(&self) -> Bus {
        self.bus.clone()
    }

    fn clock(&self) -> Arc<dyn bus::Clock> {
        Arc::new(self.clock.clone())
    }

    fn let_pass(&self, by: Duration) {
        *self.clock.0.lock() += by;
    }

    fn step_back(&self, by: Duration) {
        *self.clock.0.lock() -= by;
    }

    async fn advance(&self, by: Duration) {
        *self.clock.0.lock() += by;
        // Whatever is asked, the writer first does what is due.
        self.bus.groups().await.unwrap();
    }

    /// What a kill leaves behind is the files as they are: a copy of them is opened.
    async fn kill_and_reopen(&mut self) {
        let folder = tempfile::tempdir().unwrap();
        for file in ["bus.db", "bus.db-wal"] {
            std::fs::copy(self.folder.path().join(file), folder.path().join(file)).unwrap();
        }
        self.bus = open(&folder.path().join("bus.db"), &self.clock).await;
        self.folder = folder;
    }
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let lab = SqliteLab::open().await;
    let Err(error) = bus::sqlite::open(&lab.folder.path().join("bus.db")).await else { panic!("opened twice") };
    assert!(error.to_string().contains("open in another process"), "{error:#}");
}

#[tokio::test]
async fn a_closed_file_is_opened_again_at_once() {
    let lab = SqliteLab::open().await;
    lab.bus.publish(vec![event("a", "k")]).await.unwrap()[0].as_ref().unwrap();
    let SqliteLab { folder, clock, bus } = lab;
    drop(bus);
    let bus = open(&folder.path().join("bus.db"), &clock).await;
    assert_eq!(bus.queues().await.unwrap()[0].partitions[0].next, 2);
}

#[tokio::test]
async fn the_dedupe_window_says_when_it_is_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { dedupe_events: 2, ..Options::default() };
    let bus = Bus::new(Sqlite::open(&folder.path().join("bus.db"), options).await.unwrap());
    for id in ["a", "b", "c"] {
        bus.publish(vec![event(id, "k")]).await.unwrap();
    }
    assert!(bus.queues().await.unwrap()[0].partitions[0].dedupe_cut_short);
}

#[tokio::test]
async fn a_page_of_large_events_ends_before_they_fill_the_memory() {
    let lab = SqliteLab::open().await;
    for id in 0..30 {
        let large = event(&id.to_string(), "k").data("x".repeat(240_000).into());
        lab.bus.publish(vec![large]).await.unwrap()[0].as_ref().unwrap();
    }
    let mut next = 1;
    while next <= 30 {
        let page = lab.bus.read(&conformance::queue(), 0, next, 1000).await.unwrap().events;
        assert!((1..=20).contains(&page.len()), "{} of 240 kB each", page.len());
        assert_eq!(page[0].position, next);
        next += page.len() as u64;
    }
}

#[tokio::test]
async fn a_file_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let Err(error) = bus::sqlite::open(&path).await else { panic!("opened") };
    assert!(format!("{error:#}").contains("version 7"), "{error:#}");
}

#[tokio::test]
async fn a_failed_transaction_changes_nothing() {
    let lab = SqliteLab::open().await;
    let bus = &lab.bus;
    conformance::declare(bus, "g", Mode::Keyed).await;
    conformance::publish(bus, &[("a", "k")]).await;
    let leased = conformance::claim_one(bus, "g").await;
    let saboteur = rusqlite::Connection::open(lab.folder.path().join("bus.db")).unwrap();
    saboteur.execute_batch("ALTER TABLE log RENAME TO away").unwrap();
    let failed = bus.publish(vec![event("b", "k")]).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    let failed = bus.groups().await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "it says so until its state is whole again");
    saboteur.execute_batch("ALTER TABLE away RENAME TO log").unwrap();
    let recorded = conformance::publish(bus, &[("b", "k")]).await[0];
    assert_eq!((recorded.position, recorded.duplicate), (Some(2), false), "the failed one left no trace");
    conformance::ack(bus, "g", &[leased]).await;
    assert_eq!(conformance::claim_one(bus, "g").await.envelope.id, "b");
}

struct Count(AtomicUsize);

#[async_trait]
impl Handler for Count {
    async fn handle(&self, _: &Delivery) -> Result<(), Failure> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test]
async fn a_consumer_outlives_a_bus_that_is_away() {
    let lab = SqliteLab::open().await;
    let handler = Arc::new(Count(AtomicUsize::new(0)));
    let group = Group::new("g", "DB/*".parse().unwrap(), Mode::Parallel);
    let drain = CancellationToken::new();
    let consumer = Consumer::new(lab.bus.clone(), group, handler.clone());
    let running = tokio::spawn(consumer.run(drain.clone(), CancellationToken::new()));
    conformance::publish_many(&lab.bus, 0..1).await;
    conformance::eventually("the first is handled", async || handler.0.load(Ordering::Relaxed) == 1).await;
    let saboteur = rusqlite::Connection::open(lab.folder.path().join("bus.db")).unwrap();
    saboteur.execute_batch("ALTER TABLE unsettled RENAME TO away").unwrap();
    // Recorded, but nothing can be claimed.
    let _ = lab.bus.publish(vec![event("1", "k")]).await;
    conformance::eventually("the bus is away", async || lab.bus.groups().await.is_err()).await;
    saboteur.execute_batch("ALTER TABLE away RENAME TO unsettled").unwrap();
    conformance::publish_many(&lab.bus, 1..2).await;
    conformance::eventually("the second is handled", async || handler.0.load(Ordering::Relaxed) == 2).await;
    drain.cancel();
    running.await.unwrap().unwrap();
}
