//! The notifier between a real bus, real databases and real servers of each channel.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod answer;
mod crash;
mod digest;
mod failure;
mod mail;
mod once;
mod provider;
mod redis;
mod settings;
mod webhook;

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use bus::{Bus, Clock, SystemClock};
use database::Url;
use events::{Envelope, Name};
use lifecycle::{Role as _, Shutdown};
use notifier::{Config, Rules};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Postgres, Redis, eventually};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

const SOON: Duration = Duration::from_secs(60);

/// A bus, and a database for the notifier.
struct Site {
    folder: TempDir,
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    bus: Bus,
}

impl Site {
    /// Of each bus and each database.
    async fn every() -> [Self; 2] {
        [Self::sqlite().await, Self::on_redis(Some(testkit::postgres().await)).await]
    }

    async fn on_redis(postgres: Option<Postgres>) -> Self {
        let server = testkit::redis().await;
        let bus = bus::redis::open(&server.url()).await.unwrap();
        Self { redis: Some(server), bus, ..Self::on(postgres).await }
    }

    async fn sqlite() -> Self {
        Self::on(None).await
    }

    async fn on(postgres: Option<Postgres>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        Self { folder, postgres, redis: None, bus }
    }

    fn url(&self) -> Url {
        match &self.postgres {
            Some(server) => Url(server.url()),
            None => Url::sqlite(self.folder.path().join("notifier.db")),
        }
    }

    async fn start(&self, rules: &str) -> Running {
        self.start_at(rules, Arc::new(SystemClock)).await
    }

    async fn start_at(&self, rules: &str, clock: Arc<dyn Clock>) -> Running {
        run(&self.bus, self.url(), rules, clock).await
    }

    async fn publish(&self, events: Vec<Envelope>) {
        for outcome in self.bus.publish(events).await.unwrap() {
            outcome.unwrap();
        }
    }
}

async fn run(bus: &Bus, database: Url, rules: &str, clock: Arc<dyn Clock>) -> Running {
    let rules = Rules::parse(rules, HashMap::new()).unwrap_or_else(|faults| panic!("{faults}"));
    let config = Config { bus: bus.clone(), database, rules, pace: None };
    let notifier = notifier::build_with(config, clock).await.unwrap();
    let (ops, shutdown) = (notifier.ops(), Shutdown::new());
    let work = tokio::spawn(Box::new(notifier).run(shutdown.clone()));
    Running { ops, shutdown, work }
}

/// A notifier at work.
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
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn messages(&self, question: &str) -> Vec<Value> {
        let (status, answer) = self.ask(&format!("/notifier/messages?limit=500&{question}")).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["messages"].as_array().unwrap().clone()
    }

    /// Waits until that many messages are in the state, and no more.
    async fn come_to(&self, state: &str, count: usize) {
        let question = format!("state={state}");
        eventually(&format!("{count} messages are {state}"), SOON, async || {
            (self.messages(&question).await.len() >= count).then_some(())
        })
        .await;
        assert_eq!(self.messages(&question).await.len(), count);
    }

    async fn drain(self) {
        self.shutdown.begin(SOON);
        self.work.await.unwrap().unwrap();
    }
}

/// Waits until the notifier's group has nothing left to do.
async fn settled(bus: &Bus) {
    eventually("every event is settled", SOON, async || {
        let groups = bus.groups().await.unwrap();
        (!groups.is_empty() && groups.iter().all(|group| group.lag == 0)).then_some(())
    })
    .await;
}

/// A clock that a test moves.
struct Manual(Mutex<OffsetDateTime>);

impl Manual {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(OffsetDateTime::now_utc())))
    }

    fn pass(&self, time: Duration) {
        *self.0.lock() += time;
    }
}

impl Clock for Manual {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock()
    }
}

/// An account, as the customer service announces it.
fn account(number: usize) -> Envelope {
    named(&format!("Customer {number}"), number)
}

fn named(name: &str, number: usize) -> Envelope {
    let address = |name: &str| Name::new(name).unwrap();
    Envelope::new("/services/customer", address("DB"), address("CREATE"))
        .subject(format!("customers/{number}"))
        .data(json!({"id": number.to_string(), "email": format!("c{number}@example.com"), "name": name, "etag": "1"}))
}

/// Two people of sales, and the given rest of a configuration.
fn rules(channels: &str, channel: &str, rest: &str) -> String {
    format!(
        "start: earliest
channels: {{{channels}}}
people:
  - {{name: ann, phone: '+15005550101', email: ann@example.com}}
  - {{name: ben, phone: '+15005550102', email: ben@example.com}}
groups: {{sales: [ann, ben]}}
rules:
  - name: accounts
    on: DB/CREATE
    where: {{event.source: /services/customer}}
    template: {{subject: 'New customer: {{data.name}}', text: 'New customer {{data.name}}, {{data.email}}'}}
    recipients: {{{channel}: [sales]}}
{rest}"
    )
}

/// The same by SMS at that provider.
fn by_sms(provider: &provider::Provider, rest: &str) -> String {
    let sms = format!(
        "sms: {{base_url: '{}', account: AC1, token: secret, from: '+15005550006', timeout: 2s}}",
        provider.url()
    );
    rules(&sms, "sms", rest)
}
