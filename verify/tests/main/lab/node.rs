//! Brokers that die as a machine does, and callers as the gateway in front of them would sign them.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use broker::{Config, Settings, Signals};
use bus::{
    Bus,
    redis::{Options, Redis},
};
use lifecycle::{Role as _, Shutdown};
use principal::{Issuer, Keys, METADATA, Principal, RootSecret, Signer};
use tokio::sync::oneshot;

use super::Lab;

/// What a case's brokers have in common: a root secret, and so their cursors.
#[derive(Clone)]
pub(crate) struct Brokers {
    root: RootSecret,
    signer: Arc<Signer>,
    settings: Settings,
}

/// Somebody whom the gateway lets in. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Caller {
    signer: Arc<Signer>,
    principal: Principal,
}

/// How a node of its own gets to the bus: by a connection of its own, or by the handle of whoever has the file.
pub(crate) enum Door {
    Redis(String, Options),
    Here(Bus),
}

/// A broker in a runtime of its own. Killed, it does nothing any more; nobody is told.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    /// Dropped, it kills.
    life: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Brokers {
    /// Whoever hears nothing for long finds it out soon.
    pub(crate) fn new() -> Self {
        let soon = Duration::from_millis(400);
        Self::with(Settings { heartbeat: soon, ping: soon, ..Settings::default() })
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let root = RootSecret::generate();
        let signer = Arc::new(Signer::new("gateway", &root));
        Self { root, signer, settings }
    }

    pub(crate) fn caller(&self, subject: &str, scopes: &[&str]) -> Caller {
        let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let principal = Principal { subject: subject.to_owned(), scopes, ..Principal::default() };
        Caller { signer: self.signer.clone(), principal }
    }

    /// Somebody who may read everything, and see who is there.
    pub(crate) fn reader(&self, subject: &str) -> Caller {
        self.caller(subject, &["events:read:*/*", "presence:read"])
    }

    /// One more node; port 0 takes a free one.
    pub(crate) async fn start(&self, lab: &Lab, listen: SocketAddr) -> anyhow::Result<Node> {
        let (door, settings, root) = (lab.door().await?, self.settings.clone(), Some(self.root.clone()));
        let issuers = vec![Issuer { name: "gateway".to_owned(), keys: Keys::Inline(self.signer.jwks()) }];
        let (life, killed) = oneshot::channel::<()>();
        let (started, address) = oneshot::channel();
        let thread = thread::Builder::new().name("node".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let bus = door.open().await.unwrap();
                let config = Config { listen, bus, issuers, root, database: None, settings };
                // Many cases share a machine: how busy that is isn't what they are about.
                let broker = broker::build(config).await.unwrap().measured_by(Signals::default);
                started.send(broker.address().unwrap()).unwrap();
                tokio::select! {
                    ran = Box::new(broker).run(Shutdown::new()) => ran.unwrap(),
                    _ = killed => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Node { address: address.await?, life, thread })
    }
}

impl Caller {
    /// Good for a minute.
    pub(crate) fn token(&self) -> String {
        self.signer.sign(&self.principal)
    }

    /// A line of a request by which the caller is known.
    pub(crate) fn header(&self) -> String {
        format!("{METADATA}: {}\r\n", self.token())
    }
}

impl Door {
    async fn open(self) -> anyhow::Result<Bus> {
        match self {
            Self::Redis(url, options) => Ok(Bus::new(Redis::open(&url, options).await?)),
            Self::Here(bus) => Ok(bus),
        }
    }
}

impl Node {
    /// Returns when nothing of it is left.
    pub(crate) async fn kill(self) -> anyhow::Result<()> {
        let Self { life, thread, .. } = self;
        drop(life);
        tokio::task::spawn_blocking(|| thread.join()).await?.map_err(|_| anyhow::anyhow!("a node panicked"))
    }
}
