//! Where faults are tried: a Redis of one's own that is killed, paused and cut off, a SQLite file whose owner is; brokers on
//! either that die, and readers on the other side of the wire.

mod child;
mod clock;
mod device;
mod dispatcher;
mod fleet;
mod hooks;
mod node;
mod reader;
mod receiver;
mod redis;
mod signature;
mod sqlite;

use async_trait::async_trait;
use bus::Bus;
use testkit::Aof;
use verify::Site;

pub(crate) use child::{Child, Point, Role, act};
pub(crate) use clock::Stepping;
pub(crate) use device::Device;
pub(crate) use dispatcher::Dispatcher;
pub(crate) use fleet::Fleet;
pub(crate) use hooks::Hooks;
pub(crate) use node::{Brokers, Caller, Door, Node};
pub(crate) use reader::{Following, Notes, Reader, TRANSPORTS, Transport};
pub(crate) use receiver::{Receiver, Reply};
pub(crate) use redis::RedisLab;
pub(crate) use signature::{Key, OFFICIAL};
pub(crate) use sqlite::SqliteLab;

/// What a case needs of its lab.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) aof: Aof,
    pub(crate) settings: Vec<(&'static str, String)>,
    /// A network in between that can fail.
    pub(crate) proxied: bool,
    /// A clock that can step.
    pub(crate) clock: bool,
}

pub(crate) enum Lab {
    Redis(Box<RedisLab>),
    Sqlite(SqliteLab),
}

impl Lab {
    pub(crate) async fn open(backend: &str, setup: &Setup) -> Self {
        match backend {
            "redis" => Self::Redis(Box::new(RedisLab::open(setup).await)),
            "sqlite" => Self::Sqlite(SqliteLab::open(setup)),
            other => panic!("no backend {other}"),
        }
    }

    pub(crate) fn redis(&self) -> &RedisLab {
        match self {
            Self::Redis(lab) => lab,
            Self::Sqlite(_) => panic!("a case for Redis"),
        }
    }

    pub(crate) fn sqlite(&self) -> &SqliteLab {
        match self {
            Self::Sqlite(lab) => lab,
            Self::Redis(_) => panic!("a case for SQLite"),
        }
    }

    /// Where a child finds the bus. Of a file, nobody else may have it open then.
    pub(crate) async fn address(&self) -> String {
        match self {
            Self::Redis(lab) => lab.url(),
            Self::Sqlite(lab) => {
                lab.close();
                lab.path().display().to_string()
            }
        }
    }

    /// How a node of its own gets to the bus.
    pub(crate) async fn door(&self) -> anyhow::Result<Door> {
        match self {
            Self::Redis(lab) => Ok(lab.door()),
            Self::Sqlite(lab) => Ok(Door::Here(lab.node().await?)),
        }
    }

    pub(crate) fn clock(&self) -> &Stepping {
        match self {
            Self::Redis(lab) => &lab.clock,
            Self::Sqlite(lab) => &lab.clock,
        }
    }
}

#[async_trait]
impl Site for Lab {
    fn backend(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Sqlite(_) => "sqlite",
        }
    }

    async fn node(&self) -> anyhow::Result<Bus> {
        match self {
            Self::Redis(lab) => lab.node().await,
            Self::Sqlite(lab) => lab.node().await,
        }
    }

    async fn housekeep(&self) -> anyhow::Result<()> {
        match self {
            Self::Redis(lab) => lab.housekeep().await,
            Self::Sqlite(lab) => lab.housekeep().await,
        }
    }
}
