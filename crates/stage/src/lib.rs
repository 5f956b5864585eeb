//! What the tests of a service stand on: a database of their own on either engine, a bus, instances of the service on
//! ports of their own, callers whom the gateway or the order service vouches for, and witnesses of what the bus carries.
//!
//! All of it is real. It knows no service: each brings its own scene, with what it needs around it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod caller;
mod instance;
mod refusal;
mod witness;

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bus::{Bus, Consumer, Group, Mode};
use lifecycle::Shutdown;
use principal::{Issuer, Keys, RootSecret, Signer};
use service::Service;
use tempfile::TempDir;
use testkit::Postgres;

pub use caller::{Caller, principal};
pub use instance::Instance;
pub use refusal::{fields, preconditions};
pub use witness::Witness;

/// How long a test waits for what must happen.
pub const BOUND: Duration = Duration::from_secs(30);

/// Port 0 of this machine.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Who signs for those who come through the gateway.
pub const GATEWAY: &str = "gateway";

/// The order service, the only one that calls others.
pub const ORDER: &str = "/services/order";

/// What a scenario plays in.
pub trait Scene: Sized {
    fn on(stage: Stage) -> impl Future<Output = Self>;
}

/// Each scenario (`async fn name(scene: impl Scene)`) once on SQLite and once on a real PostgreSQL.
#[macro_export]
macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                $crate::on_sqlite(super::$scenario).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                $crate::on_postgres(super::$scenario).await;
            })*
        }
    };
}

pub async fn on_sqlite<S: Scene>(scenario: impl AsyncFnOnce(S)) {
    scenario(S::on(Stage::sqlite().await).await).await;
}

pub async fn on_postgres<S: Scene>(scenario: impl AsyncFnOnce(S)) {
    scenario(S::on(Stage::postgres().await).await).await;
}

/// A database, a bus and the secret of all keys. What was started on it ends with it, as in a crash.
pub struct Stage {
    pub bus: Bus,
    pub database: database::Url,
    pub root: RootSecret,
    pub shutdown: Shutdown,
    witnesses: AtomicU32,
    _postgres: Option<Postgres>,
    _folder: TempDir,
}

impl Stage {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = database::Url::sqlite(folder.path().join("service.db"));
        Self::on(folder, database, None).await
    }

    pub async fn postgres() -> Self {
        let postgres = testkit::postgres().await;
        Self::on(tempfile::tempdir().unwrap(), database::Url(postgres.url()), Some(postgres)).await
    }

    async fn on(folder: TempDir, database: database::Url, postgres: Option<Postgres>) -> Self {
        Self {
            bus: bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap(),
            database,
            root: RootSecret::generate(),
            shutdown: Shutdown::new(),
            witnesses: AtomicU32::new(1),
            _postgres: postgres,
            _folder: folder,
        }
    }

    /// For an instance without demo data.
    pub fn config(&self) -> service::Config {
        service::Config {
            listen: ANY_PORT,
            database: self.database.clone(),
            bus: self.bus.clone(),
            issuers: self.issuers(),
            root: self.root.clone(),
            seed: false,
            pace: None,
            registry: None,
            announce: None,
        }
    }

    /// Whose tokens are believed.
    pub fn issuers(&self) -> Vec<Issuer> {
        let issuer = |name: &str| {
            let keys = Keys::Inline(Signer::new(name, &self.root).jwks());
            Issuer { name: name.to_owned(), keys }
        };
        vec![issuer(GATEWAY), issuer(ORDER)]
    }

    /// Starts an instance, beside those that run.
    pub fn start(&self, service: Service) -> Instance {
        Instance::start(service, self.root.clone(), self.shutdown.child())
    }

    /// What a queue has carried since its beginning; kept current.
    pub fn witness(&self, filter: &str) -> Witness {
        let witness = Witness::default();
        let name = format!("witness-{}", self.witnesses.fetch_add(1, Ordering::Relaxed));
        let group = Group::new(&name, filter.parse().unwrap(), Mode::Exclusive);
        let consumer = Consumer::new(self.bus.clone(), group, witness.handler());
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { consumer.run(shutdown.draining().clone(), shutdown.dropping().clone()).await });
        witness
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.escalate();
    }
}
