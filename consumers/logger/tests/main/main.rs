//! The logger between a real bus and real databases.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answer;
mod once;

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use bus::Bus;
use database::Url;
use events::{Envelope, Name, Pattern};
use http_body_util::BodyExt as _;
use lifecycle::{Role as _, Shutdown};
use logger::Config;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Postgres, eventually};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

const SOON: Duration = Duration::from_secs(20);

/// A bus, and a database of each engine for the logger.
struct Site {
    folder: TempDir,
    postgres: Option<Postgres>,
    bus: Bus,
}

impl Site {
    async fn every() -> [Self; 2] {
        let site = async |postgres| {
            let folder = tempfile::tempdir().unwrap();
            let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
            Self { folder, postgres, bus }
        };
        [site(None).await, site(Some(testkit::postgres().await)).await]
    }

    fn url(&self) -> Url {
        match &self.postgres {
            Some(server) => Url(server.url()),
            None => Url::sqlite(self.folder.path().join("logger.db")),
        }
    }

    fn config(&self, filters: &[&str]) -> Config {
        let filters = filters.iter().map(|filter| filter.parse::<Pattern>().unwrap()).collect();
        Config { database: self.url(), bus: self.bus.clone(), filters, pace: None }
    }

    async fn start(&self) -> Running {
        self.start_with(&["DB/*"]).await
    }

    async fn start_with(&self, filters: &[&str]) -> Running {
        let logger = logger::build(self.config(filters)).await.unwrap();
        let (ops, shutdown) = (logger.ops(), Shutdown::new());
        let work = tokio::spawn(Box::new(logger).run(shutdown.clone()));
        Running { ops, shutdown, work }
    }

    async fn publish(&self, events: Vec<Envelope>) {
        for outcome in self.bus.publish(events).await.unwrap() {
            outcome.unwrap();
        }
    }
}

/// A logger at work.
struct Running {
    ops: axum::Router,
    shutdown: Shutdown,
    work: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn ask(&self, question: &str) -> (StatusCode, Value) {
        let request = Request::get(question).body(Body::empty()).unwrap();
        let answer = self.ops.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn answer(&self, question: &str) -> Value {
        let (status, answer) = self.ask(question).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }

    /// Waits until the summaries count that many events, and no more.
    async fn counted(&self, events: i64) {
        eventually("the events are counted", SOON, async || {
            let total = self.answer("/logger/summaries").await["total"].as_i64().unwrap();
            (total >= events).then_some(total)
        })
        .await;
        assert_eq!(self.answer("/logger/summaries").await["total"], events);
    }

    async fn drain(self) {
        self.shutdown.begin(SOON);
        self.work.await.unwrap().unwrap();
    }

    async fn kill(self) {
        self.work.abort();
        let _ = self.work.await;
    }
}

fn event(address: (&str, &str), source: &str, subject: &str, time: OffsetDateTime) -> Envelope {
    let mut envelope = Envelope::new(source, Name::new(address.0).unwrap(), Name::new(address.1).unwrap());
    envelope.time = time;
    envelope.subject(subject).data(json!({ "subject": subject }))
}
