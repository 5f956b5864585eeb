//! Jobs between a real bus and real databases: SQLite and SQLite, Redis and PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod control;
mod crash;
mod cron;
mod dag;
mod listing;
mod loss;
mod outlet;
mod priority;
mod retry;
mod shutdown;
mod single;
mod unique;

use std::{sync::Arc, time::Duration};

use bus::{Bus, Clock, SystemClock};
use database::Url;
use jobs::{Error, JobDetail, Jobs, Options, State, Worker};
use lifecycle::Shutdown;
use parking_lot::Mutex;
use tempfile::TempDir;
use testkit::{Postgres, Redis, eventually};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(60);

/// A bus and a database for jobs.
struct Site {
    bus: Bus,
    url: Url,
    redis: Option<Redis>,
    _postgres: Option<Postgres>,
    folder: TempDir,
}

impl Site {
    async fn every() -> [Self; 2] {
        [Self::sqlite().await, Self::shared().await]
    }

    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        let url = Url::sqlite(folder.path().join("jobs.db"));
        Self { bus, url, redis: None, _postgres: None, folder }
    }

    /// As several processes share it.
    async fn shared() -> Self {
        let (redis, postgres) = tokio::join!(testkit::redis(), testkit::postgres());
        let bus = bus::redis::open(&redis.url()).await.unwrap();
        let (url, folder) = (Url(postgres.url()), tempfile::tempdir().unwrap());
        Self { bus, url, redis: Some(redis), _postgres: Some(postgres), folder }
    }

    async fn jobs(&self) -> Jobs {
        self.jobs_at(Arc::new(SystemClock)).await
    }

    async fn jobs_at(&self, clock: Arc<dyn Clock>) -> Jobs {
        // Another node has connections of its own to Redis too.
        let bus = match &self.redis {
            Some(redis) => bus::redis::open(&redis.url()).await.unwrap(),
            None => self.bus.clone(),
        };
        Jobs::open(bus, &self.url, Options { clock, ..Options::default() }).await.unwrap()
    }
}

/// A worker at work.
struct Running {
    shutdown: Shutdown,
    work: JoinHandle<Result<(), Error>>,
}

impl Running {
    fn start(worker: Worker) -> Self {
        let shutdown = Shutdown::new();
        let work = tokio::spawn(worker.lease(Duration::from_secs(1)).run(shutdown.clone()));
        Self { shutdown, work }
    }

    /// As kill -9 would: nothing is given back.
    async fn kill(self) {
        self.work.abort();
        assert!(self.work.await.unwrap_err().is_cancelled());
    }

    async fn drain(self) {
        self.shutdown.begin(SOON);
        self.work.await.unwrap().unwrap();
    }
}

async fn comes_to(jobs: &Jobs, id: Uuid, state: State) -> JobDetail {
    eventually(&format!("the job is {state}"), SOON, async || {
        let detail = jobs.get(id).await.unwrap();
        (detail.job.state == state).then_some(detail)
    })
    .await
}

/// A clock that a test moves.
struct Manual(Mutex<OffsetDateTime>);

impl Manual {
    fn at(now: OffsetDateTime) -> Arc<Self> {
        Arc::new(Self(Mutex::new(now)))
    }

    fn advance(&self, by: time::Duration) {
        *self.0.lock() += by;
    }
}

impl Clock for Manual {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock()
    }
}

/// What handlers have done, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl ToString) {
        self.0.lock().push(what.to_string());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    async fn has(&self, lines: usize) {
        eventually(&format!("{lines} things are done"), SOON, async || (self.0.lock().len() >= lines).then_some(()))
            .await;
    }
}
