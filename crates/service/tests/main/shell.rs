//! A service in the shell: its one RPC does what the caller's e-mail asks for.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lifecycle::{Role as _, Shutdown};
use principal::{Issuer, Keys, Principal, RootSecret, Signer};
use proto::shop::customer::v1::{
    CreateAccountRequest, Customer,
    customer_service_client::CustomerServiceClient,
    customer_service_server::{CustomerService, CustomerServiceServer},
};
use service::{Builder, Config};
use tempfile::TempDir;
use tokio::{sync::Semaphore, task::JoinHandle};
use tonic::{Request, Response, Status, transport::Channel};

/// How long a test waits for what must happen.
pub const SOON: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Desk {
    /// Calls that have begun and neither ended nor been dropped.
    pub open: Arc<AtomicUsize>,
    /// A permit lets one waiting call end.
    pub release: Arc<Semaphore>,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl CustomerService for Desk {
    async fn create_account(&self, request: Request<CreateAccountRequest>) -> Result<Response<Customer>, Status> {
        self.open.fetch_add(1, Ordering::SeqCst);
        let _open = Open(Arc::clone(&self.open));
        let name = match request.get_ref().email.as_str() {
            "panic" => panic!("as the caller asked"),
            "wait" => {
                self.release.acquire().await.unwrap().forget();
                "waited".to_owned()
            }
            "who" => service::caller(&request)?.subject,
            "until" => {
                let left = service::deadline(&request).unwrap() - std::time::Instant::now();
                left.as_millis().to_string()
            }
            "trace" => telemetry::current().map(|here| here.to_string()).unwrap_or_default(),
            "forward" => {
                let onward = service::Forward::from(&request).request(());
                onward.metadata().get("traceparent").unwrap().to_str().unwrap().to_owned()
            }
            other => other.to_owned(),
        };
        Ok(Response::new(Customer { name, ..Customer::default() }))
    }
}

pub struct Shell {
    pub desk: Desk,
    pub address: SocketAddr,
    pub root: RootSecret,
    pub shutdown: Shutdown,
    pub running: JoinHandle<anyhow::Result<()>>,
    pub folder: Arc<TempDir>,
}

pub type Client = CustomerServiceClient<Channel>;

pub async fn config(folder: &TempDir, root: &RootSecret) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        database: database::Url(format!("sqlite:{}", folder.path().join("desk.db").display())),
        bus: bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap(),
        issuers: vec![
            Issuer { name: "gateway".to_owned(), keys: Keys::Inline(Signer::new("gateway", root).jwks()) },
            // Nobody listens there.
            Issuer { name: "away".to_owned(), keys: Keys::Url("http://127.0.0.1:1/jwks.json".to_owned()) },
        ],
        root: root.clone(),
        seed: false,
        pace: None,
        registry: None,
        announce: None,
    }
}

pub async fn build(config: Config) -> anyhow::Result<(Desk, service::Service)> {
    let desk = Desk { open: Arc::default(), release: Arc::new(Semaphore::new(0)) };
    let builder = Builder::new("desk", config, &[]).await?;
    Ok((desk.clone(), builder.grpc(CustomerServiceServer::new(desk)).build()))
}

pub async fn start() -> Shell {
    start_as(|config| config).await
}

pub async fn start_as(change: impl FnOnce(Config) -> Config) -> Shell {
    let (folder, root) = (Arc::new(tempfile::tempdir().unwrap()), RootSecret::generate());
    let (desk, service) = build(change(config(&folder, &root).await)).await.unwrap();
    let address = service.address().unwrap();
    let readiness = service.readiness();
    assert!(!readiness.is_ready());
    let shutdown = Shutdown::new();
    let running = tokio::spawn(Box::new(service).run(shutdown.clone()));
    testkit::eventually("it is ready", SOON, || {
        let ready = readiness.is_ready();
        async move { ready.then_some(()) }
    })
    .await;
    Shell { desk, address, root, shutdown, running, folder }
}

impl Shell {
    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> Client {
        CustomerServiceClient::new(self.channel().await)
    }

    /// Waits until so many calls are in the RPC.
    pub async fn until_open(&self, calls: usize) {
        testkit::eventually("the calls are in the RPC", SOON, || {
            let reached = self.desk.open.load(Ordering::SeqCst) == calls;
            async move { reached.then_some(()) }
        })
        .await;
    }

    pub fn alice(&self) -> Principal {
        Principal { subject: "customers/alice".to_owned(), ..Principal::default() }
    }

    pub fn token(&self) -> String {
        Signer::new("gateway", &self.root).sign(&self.alice())
    }
}

pub fn ask(what: &str) -> Request<CreateAccountRequest> {
    Request::new(CreateAccountRequest { email: what.to_owned(), ..CreateAccountRequest::default() })
}

pub fn ask_as(what: &str, token: &str) -> Request<CreateAccountRequest> {
    let mut request = ask(what);
    request.metadata_mut().insert(principal::METADATA, token.parse().unwrap());
    request
}
