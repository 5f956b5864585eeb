//! Nodes on one bus, behind one address, on a network that does what it is told.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use broker::{Config, Settings};
use bus::{Bus, Logged};
use client::{Client, Options, StreamExt as _, Subscription, Told};
use events::{Envelope, Name};
use lifecycle::{Role as _, Shutdown};
use principal::{Issuer, Keys, Principal, RootSecret, Signer};
use tempfile::TempDir;
use testkit::FaultProxy;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, watch},
    time::timeout,
};

/// Generous: a test waits for what must come, and only a fault lets it wait so long.
pub const SOON: Duration = Duration::from_secs(30);
pub const ALL: &[&str] = &["events:read:*/*", "events:write:*/*"];

/// May be in rooms, and see who is online.
pub const GUEST: &[&str] = &["rooms:join:chat/*", "rooms:write:chat/*", "presence:read"];

pub struct Lab {
    pub bus: Bus,
    /// Between the clients and whichever node it is.
    pub proxy: FaultProxy,
    signer: Arc<Signer>,
    settings: Settings,
    node: Mutex<Shutdown>,
    current: watch::Sender<SocketAddr>,
    _folder: Option<TempDir>,
}

impl Lab {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        Self { _folder: Some(folder), ..Self::start_on(bus, settings).await }
    }

    /// On a bus of another kind.
    pub async fn start_on(bus: Bus, settings: Settings) -> Self {
        let signer = Arc::new(Signer::new("gateway", &RootSecret::generate()));
        let (address, shutdown) = node(&bus, &signer, &settings).await;
        let current = watch::Sender::new(address);
        let proxy = FaultProxy::start(switch(current.subscribe()).await, 7).await;
        Self { bus, proxy, signer, settings, node: Mutex::new(shutdown), current, _folder: None }
    }

    /// Another node, on its own way to the same bus; nobody is led there yet.
    pub async fn second(&self, bus: &Bus) -> (SocketAddr, Shutdown) {
        node(bus, &self.signer, &self.settings).await
    }

    /// Cuts everybody off; whoever comes again is led to that node.
    pub fn lead_to(&self, address: SocketAddr) {
        self.current.send_replace(address);
        self.proxy.cut();
    }

    /// The node dies, with every connection to it; another one takes its place.
    pub async fn kill(&self) {
        let (address, shutdown) = node(&self.bus, &self.signer, &self.settings).await;
        self.current.send_replace(address);
        self.proxy.cut();
        std::mem::replace(&mut *self.node.lock().await, shutdown).escalate();
    }

    /// The node sends its clients away; another one takes its place.
    pub async fn drain(&self) {
        let (address, shutdown) = node(&self.bus, &self.signer, &self.settings).await;
        self.current.send_replace(address);
        std::mem::replace(&mut *self.node.lock().await, shutdown).begin(SOON);
    }

    /// What the gateway would sign for a caller; good for a minute.
    pub fn token(&self, subject: &str, scopes: &[&str]) -> String {
        sign(&self.signer, subject, scopes)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.proxy.address())
    }

    /// Whoever may read and publish everything, impatient.
    pub fn options(&self) -> Options {
        self.options_of("alice", ALL)
    }

    pub fn options_of(&self, subject: &'static str, scopes: &'static [&'static str]) -> Options {
        let signer = self.signer.clone();
        let options = Options::default().token(move || sign(&signer, subject, scopes)).name("test");
        options.backoff(Duration::from_millis(20), Duration::from_millis(500))
    }

    pub async fn client(&self) -> Client {
        self.client_of(self.options()).await
    }

    pub async fn client_of(&self, options: Options) -> Client {
        timeout(SOON, Client::connect(&self.url(), options)).await.expect("a connection").unwrap()
    }

    pub async fn publish(&self, address: &str, ids: impl IntoIterator<Item = u32>) {
        let (queue, event) = address.split_once('/').unwrap();
        for id in ids {
            let event = Envelope::new("/services/test", Name::new(queue).unwrap(), Name::new(event).unwrap());
            let event = event.id(id.to_string()).partitionkey("k").data(serde_json::json!({ "n": id }));
            self.bus.publish(vec![event]).await.unwrap()[0].as_ref().unwrap();
        }
    }

    /// What a queue holds.
    pub async fn log(&self, queue: &str) -> Vec<Logged> {
        let (queue, mut logged) = (Name::new(queue).unwrap(), Vec::new());
        loop {
            let page = self.bus.read(&queue, 0, logged.len() as u64 + 1, 1_000).await.unwrap().events;
            if page.is_empty() {
                return logged;
            }
            logged.extend(page);
        }
    }
}

fn sign(signer: &Signer, subject: &str, scopes: &[&str]) -> String {
    let scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
    signer.sign(&Principal { subject: subject.to_owned(), scopes, ..Principal::default() })
}

async fn node(bus: &Bus, signer: &Signer, settings: &Settings) -> (SocketAddr, Shutdown) {
    let issuers = vec![Issuer { name: "gateway".to_owned(), keys: Keys::Inline(signer.jwks()) }];
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = Config { listen, bus: bus.clone(), issuers, root: None, database: None, settings: settings.clone() };
    let broker = broker::build(config).await.unwrap();
    let (address, shutdown) = (broker.address().unwrap(), Shutdown::new());
    tokio::spawn(Box::new(broker).run(shutdown.clone()));
    (address, shutdown)
}

/// An address that leads new connections to the current node.
async fn switch(current: watch::Receiver<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let node = *current.borrow();
            tokio::spawn(async move {
                if let Ok(mut node) = TcpStream::connect(node).await {
                    _ = (client.set_nodelay(true), node.set_nodelay(true));
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
                }
            });
        }
    });
    address
}

pub async fn next(subscription: &mut Subscription) -> Told {
    timeout(SOON, subscription.next()).await.expect("something is told").expect("it goes on")
}

/// The ids of so many events; what else is told must be that it has caught up.
pub async fn ids(subscription: &mut Subscription, count: usize) -> Vec<u32> {
    let mut ids = Vec::new();
    while ids.len() < count {
        match next(subscription).await {
            Told::Event(told) => ids.push(told.event.id.parse().unwrap()),
            Told::CaughtUp { .. } => {}
            other => panic!("{other:?} after {ids:?}"),
        }
    }
    ids
}
