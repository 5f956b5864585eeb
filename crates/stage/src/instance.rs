use lifecycle::{Role as _, Shutdown};
use principal::{RootSecret, Signer};
use service::Service;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::{
    BOUND, Caller, GATEWAY, ORDER,
    caller::{Token, principal},
};

/// A running service. It ends with its stage, whether this is dropped or not.
#[derive(Debug)]
pub struct Instance {
    channel: Channel,
    root: RootSecret,
    shutdown: Shutdown,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Instance {
    pub(crate) fn start(service: Service, root: RootSecret, shutdown: Shutdown) -> Self {
        let address = service.address().unwrap();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let running = tokio::spawn(Box::new(service).run(shutdown.clone()));
        Self { channel, root, shutdown, running }
    }

    /// Somebody without a principal.
    pub fn anyone(&self) -> Caller {
        Caller::new(self.channel.clone(), Token(None))
    }

    /// Somebody whom the gateway has authenticated.
    pub fn caller(&self, subject: &str, scopes: &[&str]) -> Caller {
        self.bearer(Signer::new(GATEWAY, &self.root).sign(&principal(subject, scopes)))
    }

    /// The order service, acting alone.
    pub fn order_service(&self) -> Caller {
        self.bearer(Signer::new(ORDER, &self.root).sign_own())
    }

    /// Whoever has this token.
    pub fn bearer(&self, token: String) -> Caller {
        Caller::new(self.channel.clone(), Token(Some(token)))
    }

    /// Begins the drain, and doesn't wait for it.
    pub fn begin_stop(&self) {
        self.shutdown.begin(BOUND);
    }

    /// Drains it.
    pub async fn stop(&mut self) {
        self.begin_stop();
        tokio::time::timeout(BOUND, &mut self.running).await.unwrap().unwrap().unwrap();
    }
}
