//! A bus and a database, time that moves when told, and nodes that deliver.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bus::{Bus, Clock, redis, sqlite};
use database::{Database, Url};
use events::{Envelope, Name};
use principal::RootSecret;
use serde_json::json;
use tempfile::TempDir;
use testkit::{FaultProxy, Postgres, Redis, eventually};
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use webhooks::{Attempt, Attempts, Begin, Endpoint, NewEndpoint, Options, Standing, Webhooks};

use crate::receiver::Receiver;

/// Generous: a test waits for what must come, and only a fault lets it wait so long.
pub const SOON: Duration = Duration::from_secs(30);

/// A clock that moves when told.
#[derive(Clone)]
pub struct Manual(Arc<Mutex<OffsetDateTime>>);

impl Clock for Manual {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

pub struct Lab {
    pub bus: Bus,
    pub clock: Manual,
    pub webhooks: Webhooks,
    database: Database,
    root: RootSecret,
    nodes: Vec<Node>,
    _folder: TempDir,
    servers: (Option<Postgres>, Option<Redis>),
}

/// Who delivers.
struct Node {
    drain: CancellationToken,
    drop: CancellationToken,
    task: JoinHandle<()>,
}

impl Lab {
    /// One node, on SQLite.
    pub async fn start() -> Self {
        Self::at(OffsetDateTime::now_utc(), |options| options).await
    }

    pub async fn at(now: OffsetDateTime, options: impl FnOnce(Options) -> Options) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), manual(now));
        let bus = in_a_file(&folder, &clock).await;
        let database = Url::sqlite(folder.path().join("broker.db"));
        Self::on(folder, clock, bus, &database, (None, None), options).await
    }

    /// One node, its endpoints in PostgreSQL.
    pub async fn on_postgres() -> Self {
        let server = testkit::postgres().await;
        let url = server.url();
        Self::on_postgres_at(server, url).await
    }

    /// The same, of a database that can be cut off.
    pub async fn on_postgres_far_away() -> (Self, FaultProxy) {
        let server = testkit::postgres().await;
        let url = server.url();
        let port = url.rsplit_once('/').and_then(|(host, _)| host.rsplit_once(':')).unwrap().1;
        let proxy = FaultProxy::start(format!("127.0.0.1:{port}").parse().unwrap(), 7).await;
        let url = url.replace(&format!(":{port}/"), &format!(":{}/", proxy.address().port()));
        (Self::on_postgres_at(server, url).await, proxy)
    }

    async fn on_postgres_at(server: Postgres, url: String) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), manual(OffsetDateTime::now_utc()));
        let bus = in_a_file(&folder, &clock).await;
        Self::on(folder, clock, bus, &Url(url), (Some(server), None), |options| options).await
    }

    /// One node, on a bus that several processes may share.
    pub async fn on_redis(now: OffsetDateTime) -> Self {
        let server = testkit::redis().await;
        let (folder, clock) = (tempfile::tempdir().unwrap(), manual(now));
        let bus = on_a_server(&server, &clock).await;
        let database = Url::sqlite(folder.path().join("broker.db"));
        Self::on(folder, clock, bus, &database, (None, Some(server)), |options| options).await
    }

    async fn on(
        folder: TempDir,
        clock: Manual,
        bus: Bus,
        url: &Url,
        servers: (Option<Postgres>, Option<Redis>),
        options: impl FnOnce(Options) -> Options,
    ) -> Self {
        let database = Database::open(url, "broker", &webhooks::migrations()).await.unwrap();
        let root = RootSecret::generate();
        let options = options(Options {
            clock: Arc::new(clock.clone()),
            root: Some(root.clone()),
            allow_private_networks: true,
            ..Options::default()
        });
        let webhooks = Webhooks::new(bus.clone(), database.clone(), options).unwrap();
        let mut lab = Self { bus, clock, webhooks, database, root, nodes: Vec::new(), _folder: folder, servers };
        lab.begin(lab.webhooks.clone());
        lab
    }

    /// Webhooks on the same bus and database, by these options.
    pub fn open(&self, options: Options) -> Result<Webhooks, webhooks::Error> {
        Webhooks::new(self.bus.clone(), self.database.clone(), options)
    }

    /// Another process on the same bus and database.
    pub fn another(&mut self) -> Webhooks {
        let webhooks = self.process(self.bus.clone());
        self.begin(webhooks.clone());
        webhooks
    }

    /// Another process, which doesn't deliver: what is changed there the others must notice by themselves.
    pub async fn elsewhere(&self) -> Webhooks {
        self.process(match &self.servers.1 {
            Some(server) => on_a_server(server, &self.clock).await,
            None => self.bus.clone(),
        })
    }

    fn process(&self, bus: Bus) -> Webhooks {
        let options = Options {
            clock: Arc::new(self.clock.clone()),
            root: Some(self.root.clone()),
            allow_private_networks: true,
            ..Options::default()
        };
        Webhooks::new(bus, self.database.clone(), options).unwrap()
    }

    fn begin(&mut self, webhooks: Webhooks) {
        let (drain, drop) = (CancellationToken::new(), CancellationToken::new());
        let (drained, dropped) = (drain.clone(), drop.clone());
        let task = tokio::spawn(async move { webhooks.run(drained, dropped).await });
        self.nodes.push(Node { drain, drop, task });
    }

    /// Ends the first node, at once.
    pub async fn kill(&mut self) {
        let node = self.nodes.remove(0);
        node.drop.cancel();
        node.drain.cancel();
        node.task.await.unwrap();
    }

    pub fn let_pass(&self, by: Duration) {
        *self.clock.0.lock().unwrap() += by;
    }

    /// Now, as it stands in a header.
    pub fn clock_seconds(&self) -> String {
        self.clock.now().unix_timestamp().to_string()
    }

    pub fn webhooks_now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// An endpoint of somebody's, on these events.
    pub async fn endpoint(&self, receiver: &Receiver, filter: &str) -> (Endpoint, String) {
        self.webhooks.create(new(receiver, filter)).await.unwrap()
    }

    /// Publishes events by id and key, one after another.
    pub async fn publish(&self, queue: &str, events: &[(&str, &str)]) {
        for (id, key) in events {
            let outcomes = self.bus.publish(vec![event(queue, id, key)]).await.unwrap();
            assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        }
    }

    pub async fn standing(&self, id: &str) -> Standing {
        let endpoint = self.webhooks.get(id).await.unwrap();
        self.webhooks.standings(&[endpoint]).await.unwrap().remove(0)
    }

    /// What was tried, oldest first.
    pub async fn attempts(&self, id: &str) -> Vec<Attempt> {
        let found = self.webhooks.attempts(id, &Attempts::default(), 1000).await.unwrap();
        found.into_iter().rev().map(|(_, attempt)| attempt).collect()
    }

    /// Waits until so many requests came, and time stands still.
    pub async fn come(&self, receiver: &Receiver, count: usize) {
        eventually(&format!("{count} requests came"), SOON, || async {
            (receiver.requests().len() >= count).then_some(())
        })
        .await;
        assert_eq!(receiver.requests().len(), count, "{:?}", receiver.ids());
    }

    /// Waits until nothing is in flight of an endpoint, and so many attempts are written down.
    pub async fn tried(&self, id: &str, count: usize) -> Vec<Attempt> {
        eventually(&format!("{count} attempts are written down"), SOON, || async {
            let attempts = self.attempts(id).await;
            let standing = self.standing(id).await;
            (attempts.len() >= count && standing.in_flight == 0).then_some(attempts)
        })
        .await
    }

    /// Has groups go that nobody wants: with an endpoint that is removed they do at once.
    pub async fn sweep(&self) {
        let none = NewEndpoint::new(None, "http://127.0.0.1:1/", "NEVER/*");
        let (endpoint, _) = self.webhooks.create(none).await.unwrap();
        self.webhooks.remove(&endpoint.id).await.unwrap();
    }

    pub async fn is_enabled(&self, id: &str) -> bool {
        self.webhooks.get(id).await.unwrap().is_enabled()
    }

    /// Waits until nothing is in flight, for a while: where time leaps meanwhile, leases end.
    pub async fn quiet(&self, id: &str) {
        for _ in 0..3 {
            eventually("nothing is in flight", SOON, || async {
                (self.standing(id).await.in_flight == 0).then_some(())
            })
            .await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all that there is has been delivered.
    pub async fn settled(&self, id: &str) {
        eventually("everything is delivered", SOON, || async {
            let standing = self.standing(id).await;
            (standing.lag == 0 && standing.in_flight == 0 && standing.retrying == 0).then_some(())
        })
        .await;
    }

    /// Waits until nobody delivers to an endpoint any more.
    pub async fn nobody_is_at(&self, endpoint: &Endpoint) {
        eventually("nobody is at it", SOON, || async { (self.members(endpoint).await == 0).then_some(()) }).await;
    }

    pub async fn somebody_is_at(&self, endpoint: &Endpoint) {
        eventually("somebody is at it", SOON, || async { (self.members(endpoint).await > 0).then_some(()) }).await;
    }

    pub async fn members(&self, endpoint: &Endpoint) -> usize {
        let group = Some(endpoint.group());
        let connections = self.bus.connections().await.unwrap();
        connections.iter().flat_map(|one| &one.subscriptions).filter(|one| one.group == group).count()
    }

    /// What the bus tells of itself.
    pub async fn told(&self, event: &str) -> Vec<Arc<Envelope>> {
        let page = self.bus.read(&Name::new("SYS").unwrap(), 0, 1, 1000).await.unwrap();
        page.events.into_iter().map(|logged| logged.envelope).filter(|told| told.event.as_str() == event).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.drain.cancel();
            node.drop.cancel();
        }
    }
}

fn manual(now: OffsetDateTime) -> Manual {
    Manual(Arc::new(Mutex::new(now)))
}

async fn on_a_server(server: &Redis, clock: &Manual) -> Bus {
    let options = redis::Options { clock: Some(Arc::new(clock.clone())), ..redis::Options::default() };
    redis::open_with(server.url().as_str(), options).await.unwrap()
}

async fn in_a_file(folder: &TempDir, clock: &Manual) -> Bus {
    let options = sqlite::Options { clock: Arc::new(clock.clone()), ..sqlite::Options::default() };
    Bus::new(sqlite::Sqlite::open(&folder.path().join("bus.db"), options).await.unwrap())
}

/// An endpoint that gets what comes from now on.
pub fn new(receiver: &Receiver, filter: &str) -> NewEndpoint {
    let new = NewEndpoint::new(Some("partners/acme".to_owned()), &receiver.url(), filter);
    NewEndpoint { from: Begin::Now, ..new }
}

pub fn event(queue: &str, id: &str, key: &str) -> Envelope {
    let event = Envelope::new("/services/order", Name::new(queue).unwrap(), Name::new("PLACED").unwrap());
    event.id(id).subject(key).data(json!({ "id": id }))
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}
