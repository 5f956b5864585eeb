//! A running customer service on real parts: its own database, its own bus, a gateway's signer.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bus::{Bus, Consumer, Delivery, Failure, Group, Handler, Mode};
use events::Envelope;
use lifecycle::{Role as _, Shutdown};
use principal::{Issuer, Keys, RootSecret, Signer};
use proto::{
    shop::customer::v1::customer_service_client::CustomerServiceClient,
    turnpike::auth::v1::authenticator_client::AuthenticatorClient,
};
use tempfile::TempDir;
use testkit::{Postgres, eventually};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

pub const BOUND: Duration = Duration::from_secs(20);

/// Each scenario once on SQLite and once on a real PostgreSQL.
macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario(crate::stage::Stage::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario(crate::stage::Stage::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both;

pub struct Stage {
    pub bus: Bus,
    root: RootSecret,
    database: database::Url,
    address: SocketAddr,
    shutdown: Shutdown,
    _postgres: Option<Postgres>,
    _folder: TempDir,
}

impl Stage {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite:{}", folder.path().join("customer.db").display());
        Self::on(folder, database, None).await
    }

    pub async fn postgres() -> Self {
        let postgres = testkit::postgres().await;
        Self::on(tempfile::tempdir().unwrap(), postgres.url(), Some(postgres)).await
    }

    async fn on(folder: TempDir, database: String, postgres: Option<Postgres>) -> Self {
        let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
        let mut stage = Self {
            bus,
            root: RootSecret::generate(),
            database: database::Url(database),
            address: ([127, 0, 0, 1], 0).into(),
            shutdown: Shutdown::new(),
            _postgres: postgres,
            _folder: folder,
        };
        stage.address = stage.start(Some(demo())).await.unwrap();
        stage
    }

    /// Starts an instance, beside those that run.
    pub async fn start(&self, demo: Option<customer::Demo>) -> anyhow::Result<SocketAddr> {
        let issuers = ["gateway", "/services/order"]
            .map(|name| Issuer { name: name.to_owned(), keys: Keys::Inline(Signer::new(name, &self.root).jwks()) });
        let config = service::Config {
            listen: ([127, 0, 0, 1], 0).into(),
            database: self.database.clone(),
            bus: self.bus.clone(),
            issuers: issuers.to_vec(),
            root: self.root.clone(),
            seed: false,
            pace: None,
        };
        let service = customer::build(customer::Config { service: config, demo }).await?;
        let address = service.address().unwrap();
        tokio::spawn(Box::new(service).run(self.shutdown.clone()));
        Ok(address)
    }

    pub fn accounts(&self) -> CustomerServiceClient<Channel> {
        CustomerServiceClient::new(self.channel())
    }

    pub fn door(&self) -> AuthenticatorClient<Channel> {
        AuthenticatorClient::new(self.channel())
    }

    fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    /// What `DB/*` has carried, as a group of its own reads it; kept current.
    pub fn events(&self) -> Events {
        let events = Events::default();
        let group = Group::new("witness", "DB/*".parse().unwrap(), Mode::Exclusive);
        let consumer = Consumer::new(self.bus.clone(), group, Arc::new(events.clone()));
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { consumer.run(shutdown.draining().clone(), shutdown.dropping().clone()).await });
        events
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.escalate();
    }
}

/// The credentials the stage starts with.
pub fn demo() -> customer::Demo {
    customer::Demo {
        email: "demo@turnpike.test".to_owned(),
        password: "demo-password".into(),
        operator_email: "operator@turnpike.test".to_owned(),
        operator_password: "operator-password".into(),
    }
}

/// The fields that a refusal names.
pub fn fields(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    bad.into_iter().map(|violation| violation.field).collect()
}

/// What a consumer has seen so far.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Arc<Envelope>>>>);

impl Events {
    /// Waits for the event of this entity that `wanted` looks for.
    pub async fn find(&self, subject: &str, wanted: impl Fn(&Envelope) -> bool) -> Arc<Envelope> {
        let wanted = |event: &&Arc<Envelope>| event.subject.as_deref() == Some(subject) && wanted(event);
        let found = || async { self.0.lock().unwrap().iter().find(wanted).cloned() };
        eventually(&format!("an event of {subject}"), BOUND, found).await
    }

    pub fn all(&self) -> Vec<Arc<Envelope>> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Handler for Events {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        self.0.lock().unwrap().push(delivery.envelope.clone());
        Ok(())
    }
}
