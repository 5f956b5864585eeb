//! The handle on a Redis.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, ProtocolVersion, RedisError, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
};
use tokio::time::{MissedTickBehavior, sleep, timeout};

use crate::{
    Address,
    address::{Host, Place},
    cluster::Cluster,
    dial,
    link::{Dialed, Failed, Link, Request},
    sentinel,
};

/// How often the Sentinels are asked who the primary is, while everything seems well: a former primary that is cut off
/// from the others goes on answering.
const LOOK: Duration = Duration::from_secs(1);
/// Commands that wait to be written; more wait to wait.
const WAITING: usize = 1024;
/// Between attempts at a connection: the first pause, which doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a Redis is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection, with the login.
    pub connect: Duration,
    /// For an answer. On a Cluster also for what is on its way to another node, and for a primary that is being replaced.
    pub answer: Duration,
    /// Attempts at a connection before those who wait are told; whoever asks next begins anew.
    pub attempts: u32,
}

impl Default for Patience {
    /// 2 s, 5 s, four attempts within a second or two.
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), answer: Duration::from_secs(5), attempts: 5 }
    }
}

/// A Redis, whatever it is made of. Clones share its connections.
#[derive(Clone)]
pub struct Redis(Arc<Reached>);

struct Reached {
    address: Arc<Address>,
    patience: Patience,
    way: Way,
}

enum Way {
    One(Arc<Link>),
    Cluster(Cluster),
}

/// A server that has data of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node(pub(crate) Host);

impl Redis {
    /// Nothing is connected before it is needed. Call it on the runtime that is to do the work.
    pub fn new(address: Address, patience: Patience) -> Self {
        let address = Arc::new(address);
        let way = match &address.place {
            Place::Cluster(seeds) => Way::Cluster(Cluster::new(address.clone(), seeds.clone(), patience)),
            _ => Way::One(Arc::new(Link::new({
                let address = address.clone();
                move || dial_primary(address.clone(), patience).boxed()
            }))),
        };
        let redis = Self(Arc::new(Reached { address, patience, way }));
        if matches!(redis.0.address.place, Place::Sentinels { .. }) {
            tokio::spawn(watch(Arc::downgrade(&redis.0)));
        }
        redis
    }

    /// [`Redis::new`], and whether somebody answers.
    ///
    /// # Errors
    /// If nobody does, or lets us in.
    pub async fn connect(address: Address, patience: Patience) -> RedisResult<Self> {
        let redis = Self::new(address, patience);
        match &redis.0.way {
            Way::One(link) => link.reach().await.map(drop)?,
            Way::Cluster(cluster) => cluster.primaries().await.map(drop)?,
        }
        Ok(redis)
    }

    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// Whether keys lie on several servers.
    pub fn is_cluster(&self) -> bool {
        matches!(self.0.way, Way::Cluster(_))
    }

    /// Asks something of whoever has its key.
    ///
    /// # Errors
    /// Redis's own; if it can't be reached, or doesn't answer in time.
    pub async fn ask(&self, cmd: &Cmd) -> RedisResult<Value> {
        match &self.0.way {
            Way::One(link) => link.ask(cmd).await,
            Way::Cluster(cluster) => cluster.ask(cmd).await,
        }
    }

    /// The servers that have data: one, or a Cluster's primaries.
    ///
    /// # Errors
    /// If it can't be reached.
    pub async fn nodes(&self) -> RedisResult<Vec<Node>> {
        match &self.0.way {
            Way::One(link) => Ok(vec![Node(link.reach().await?)]),
            Way::Cluster(cluster) => Ok(cluster.primaries().await?.into_iter().map(Node).collect()),
        }
    }

    /// Who has a key, as far as is known without asking.
    pub fn node_of(&self, key: &str) -> Option<Node> {
        match &self.0.way {
            Way::One(link) => link.host().map(Node),
            Way::Cluster(cluster) => cluster.known(key).map(Node),
        }
    }

    /// Asks something of one of the [`Redis::nodes`].
    ///
    /// # Errors
    /// As [`Redis::ask`].
    pub async fn ask_node(&self, node: &Node, cmd: &Cmd) -> RedisResult<Value> {
        match &self.0.way {
            Way::One(link) => link.ask(cmd).await,
            Way::Cluster(cluster) => cluster.link(&node.0).ask(cmd).await,
        }
    }

    /// Asks the same of each of the [`Redis::nodes`].
    ///
    /// # Errors
    /// As [`Redis::nodes`]; what each answers is with it.
    pub async fn ask_each(&self, cmd: &Cmd) -> RedisResult<Vec<(Node, RedisResult<Value>)>> {
        let asked = self.nodes().await?.into_iter().map(async |node| {
            let answer = self.ask_node(&node, cmd).await;
            (node, answer)
        });
        Ok(join_all(asked).await)
    }

    /// A connection of its own that hears what is said on a channel, on whichever node.
    ///
    /// # Errors
    /// If there is none.
    pub async fn listen(&self, channel: &str) -> RedisResult<PubSub> {
        let mut failed = unreachable_error();
        for Node(host) in self.nodes().await? {
            let subscribed = async {
                let mut listener = self.0.address.client(&host, ProtocolVersion::RESP2)?.get_async_pubsub().await?;
                listener.subscribe(channel).await?;
                Ok(listener)
            };
            match timeout(self.0.patience.connect, subscribed).await {
                Ok(Ok(listener)) => return Ok(listener),
                Ok(Err(error)) => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    }

    /// A connection of its own to whoever has a key, which breaks for good when it breaks: for what must be asked on the
    /// same one (WAIT), or waits long. On a Cluster, a key that has moved since is answered with MOVED.
    ///
    /// # Errors
    /// If there is none.
    pub async fn own(&self, key: &str, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        let host = match &self.0.way {
            Way::One(link) => link.reach().await?,
            Way::Cluster(cluster) => cluster.of_key(key).await?,
        };
        dial::connect(&self.0.address.client(&host, ProtocolVersion::RESP2)?, config).await
    }
}

impl Address {
    /// A connection of its own to whoever has a key, without a handle: for one who makes it again by itself. It speaks
    /// RESP3, so that it can hear channels too.
    ///
    /// # Errors
    /// If there is none.
    pub async fn dial(&self, key: &str, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        let host = match &self.place {
            Place::Server(host) => host.clone(),
            Place::Sentinels { hosts, primary, login } => sentinel::primary(self, hosts, primary, login).await?,
            Place::Cluster(seeds) => {
                let patience = Patience { attempts: 1, ..Patience::default() };
                Cluster::new(Arc::new(self.clone()), seeds.clone(), patience).of_key(key).await?
            }
        };
        dial::connect(&self.client(&host, ProtocolVersion::RESP3)?, config).await
    }
}

impl ConnectionLike for Redis {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        self.ask(cmd).boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match &self.0.way {
            Way::One(link) => async move {
                let sent = link.send(Request::Pipeline(pipeline, offset, count)).await;
                sent.map_err(Failed::into_error)
            }
            .boxed(),
            Way::Cluster(cluster) => cluster.send_all(pipeline, offset, count).boxed(),
        }
    }

    fn get_db(&self) -> i64 {
        self.0.address.database
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redis({})", self.0.address)
    }
}

/// How commands of many are sent on one connection.
pub(crate) fn shared(patience: Patience) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience.connect))
        .set_response_timeout(Some(patience.answer))
        .set_pipeline_buffer_size(WAITING)
}

pub(crate) fn unreachable_error() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

async fn dial_primary(address: Arc<Address>, patience: Patience) -> RedisResult<Dialed> {
    let mut pause = PAUSE;
    for attempt in 1.. {
        match try_primary(&address, patience).await {
            Err(_) if attempt < patience.attempts => sleep(pause).await,
            dialed => return dialed,
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
    Err(unreachable_error())
}

async fn try_primary(address: &Address, patience: Patience) -> RedisResult<Dialed> {
    let host = match &address.place {
        Place::Server(host) => host.clone(),
        Place::Sentinels { hosts, primary, login } => sentinel::primary(address, hosts, primary, login).await?,
        Place::Cluster(_) => return Err(unreachable_error()),
    };
    let client = address.client(&host, ProtocolVersion::RESP2)?;
    let mut connection = dial::connect(&client, &shared(patience)).await?;
    if matches!(address.place, Place::Sentinels { .. }) {
        // What Sentinels say may be a moment old.
        let role: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await?;
        if !role.lines().any(|line| line == "role:master") {
            return Err((ErrorKind::MasterNameNotFoundBySentinel, "it is no primary yet", host.to_string()).into());
        }
    }
    Ok(Dialed { connection, host })
}

/// Leaves a primary that the Sentinels have replaced, as long as somebody has the handle.
async fn watch(reached: Weak<Reached>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(reached) = reached.upgrade() else { return };
        let (Place::Sentinels { hosts, primary, login }, Way::One(link)) = (&reached.address.place, &reached.way)
        else {
            return;
        };
        let Some(current) = link.host() else { continue };
        if let Ok(named) = sentinel::primary(&reached.address, hosts, primary, login).await
            && named != current
        {
            tracing::warn!(former = %current, primary = %named, "the Sentinels name another primary");
            link.leave_host(&current);
        }
    }
}
