//! Webhooks on a lab's bus: a database of their own, and nodes that deliver.

use std::{sync::Arc, time::Duration};

use bus::{Bus, Clock as _};
use database::{Database, Url};
use principal::RootSecret;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use verify::{
    Site as _,
    contract::Stage,
    history::{self, Action, Begins, Filter, What},
    load::Witness,
};
use webhooks::{Attempts, Begin, Endpoint, NewEndpoint, Options, Resumed, Webhooks};

use super::{Key, Lab, Receiver, Stepping};

/// How long something may take that should be soon.
const SOON: Duration = Duration::from_secs(60);
/// How long a group of webhooks leases an event.
const LEASE_MS: u64 = 30_000;

/// Dropped, nobody delivers any more.
pub(crate) struct Hooks {
    /// The first node's.
    pub(crate) webhooks: Webhooks,
    nodes: Vec<Node>,
    witness: Witness,
    queue: String,
    clock: Stepping,
    _folder: TempDir,
}

/// Who delivers.
struct Node {
    webhooks: Webhooks,
    bus: Bus,
    drain: CancellationToken,
    drop: CancellationToken,
    task: JoinHandle<()>,
}

impl Node {
    fn start(webhooks: Webhooks, bus: Bus) -> Self {
        let (drain, drop) = (CancellationToken::new(), CancellationToken::new());
        let (running, drained, dropped) = (webhooks.clone(), drain.clone(), drop.clone());
        let task = tokio::spawn(async move { running.run(drained, dropped).await });
        Self { webhooks, bus, drain, drop, task }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.drain.cancel();
            node.drop.cancel();
        }
    }
}

impl Hooks {
    /// So many nodes, each with its own handle on the bus where there may be several. `timeout`: of a request.
    pub(crate) async fn open(lab: &Lab, stage: &Stage, count: usize, timeout: Duration) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let database = Url::sqlite(folder.path().join("webhooks.db"));
        let database = Database::open(&database, "verify", &webhooks::migrations()).await?;
        let options = Options {
            clock: Arc::new(lab.clock().clone()),
            root: Some(RootSecret::generate()),
            allow_private_networks: true,
            timeout,
            ..Options::default()
        };
        let mut nodes = Vec::new();
        for _ in 0..count {
            let bus = lab.node().await?;
            nodes.push(Node::start(Webhooks::new(bus.clone(), database.clone(), options.clone())?, bus));
        }
        let (webhooks, witness) = (nodes[0].webhooks.clone(), stage.witness(nodes[0].bus.clone()));
        let (queue, clock) = (stage.queue()?.to_string(), lab.clock().clone());
        Ok(Self { webhooks, nodes, witness, queue, clock, _folder: folder })
    }

    pub(crate) async fn receiver(&self) -> Receiver {
        Receiver::start(self.witness.history.clone(), self.clock.clone(), self.webhooks.clone()).await
    }

    /// An endpoint at an address, of all that the case publishes.
    pub(crate) fn at(&self, address: std::net::SocketAddr) -> NewEndpoint {
        NewEndpoint::new(None, &format!("http://{address}/hook"), &format!("{}/*", self.queue))
    }

    /// Registers what is at the end of its address; its group is one of the history.
    pub(crate) async fn register(&self, receiver: &Receiver, new: NewEndpoint) -> anyhow::Result<Endpoint> {
        let (endpoint, shown) = self.webhooks.create(new).await?;
        receiver.is(endpoint.group(), Key::read(&shown));
        self.witness.history.write(What::Group {
            name: endpoint.group(),
            queue: self.queue.clone(),
            filter: Filter::default(),
            mode: if endpoint.ordered { history::Mode::Keyed } else { history::Mode::Parallel },
            lease_ms: LEASE_MS,
            begins: Begins::Earliest,
            effects: true,
        });
        Ok(endpoint)
    }

    pub(crate) async fn rotate(&self, receiver: &Receiver, endpoint: &Endpoint) -> anyhow::Result<()> {
        let (shown, _) = self.webhooks.rotate(&endpoint.id).await?;
        receiver.learns(Key::read(&shown));
        let clock = self.witness.history.moment(self.clock.now());
        self.witness.history.write(What::Rotated { endpoint: endpoint.group(), clock });
        Ok(())
    }

    /// Those who deliver finish what they have, and others begin, who know everything as it is now. `between`: when nobody
    /// delivers.
    pub(crate) async fn restart(&mut self, between: impl FnOnce(&Witness)) -> anyhow::Result<()> {
        let mut fresh = Vec::new();
        for Node { webhooks, bus, drain, task, .. } in self.nodes.drain(..) {
            drain.cancel();
            task.await?;
            fresh.push((webhooks, bus));
        }
        between(&self.witness);
        self.nodes.extend(fresh.into_iter().map(|(webhooks, bus)| Node::start(webhooks, bus)));
        Ok(())
    }

    /// Disables it, where it isn't yet; nobody posts to it once this is over.
    pub(crate) async fn disable(&mut self, endpoint: &Endpoint) -> anyhow::Result<()> {
        self.webhooks.disable(&endpoint.id).await?;
        self.restart(|witness| witness.operated(&endpoint.group(), Action::Disable)).await
    }

    pub(crate) async fn enable(&self, endpoint: &Endpoint) -> anyhow::Result<Resumed> {
        self.witness.operated(&endpoint.group(), Action::Enable);
        Ok(self.webhooks.enable(&endpoint.id, Begin::Then, false).await?)
    }

    /// How many attempts failed so far.
    pub(crate) async fn failures(&self, endpoint: &Endpoint) -> usize {
        let failed = Attempts { failed: true, ..Attempts::default() };
        self.webhooks.attempts(&endpoint.id, &failed, 1_000).await.unwrap().len()
    }

    /// Waits until it is spared, since it fails. What was leased is given back by then.
    pub(crate) async fn nobody_is_at(&self, endpoint: &Endpoint) {
        let group = Some(endpoint.group());
        testkit::eventually("nobody is at the endpoint", SOON, async || {
            let here = self.nodes.iter().flat_map(|node| node.bus.roster().here());
            let is_at = here.flat_map(|member| member.subscriptions).any(|member| member.group == group);
            (!is_at).then_some(())
        })
        .await;
    }

    /// Whether everything is delivered to these.
    pub(crate) async fn is_settled(&self, endpoints: &[&Endpoint]) -> bool {
        let Ok(groups) = self.witness.bus.groups().await else { return false };
        endpoints.iter().all(|endpoint| {
            let mut of = groups.iter().filter(|group| group.name == endpoint.group());
            of.all(|group| group.lag + group.in_flight + group.retrying + group.parked == 0)
        })
    }

    /// Waits until everything is delivered to these.
    pub(crate) async fn settled(&self, endpoints: &[&Endpoint]) {
        testkit::eventually("everything is delivered", SOON, async || self.is_settled(endpoints).await.then_some(()))
            .await;
    }
}
