//! A customer service with the accounts of its seed.

use customer::{Credentials, Seed};
use proto::{
    shop::customer::v1::customer_service_client::CustomerServiceClient,
    turnpike::auth::v1::authenticator_client::AuthenticatorClient,
};
use stage::{Caller, Instance, Scene, Stage};

pub struct Shop {
    pub stage: Stage,
    instance: Instance,
}

impl Scene for Shop {
    async fn on(stage: Stage) -> Self {
        Self { instance: start(&stage, seed()).await.unwrap(), stage }
    }
}

impl Shop {
    /// Starts another instance.
    pub async fn start(&self, seed: Seed) -> anyhow::Result<Instance> {
        start(&self.stage, seed).await
    }

    pub fn accounts(&self) -> CustomerServiceClient<Caller> {
        CustomerServiceClient::new(self.instance.anyone())
    }

    pub fn door(&self) -> AuthenticatorClient<Caller> {
        AuthenticatorClient::new(self.instance.anyone())
    }
}

async fn start(stage: &Stage, seed: Seed) -> anyhow::Result<Instance> {
    let service = customer::build(customer::Config { service: stage.config(), seed }).await?;
    Ok(stage.start(service))
}

/// The accounts the shop starts with.
pub fn seed() -> Seed {
    Seed {
        demo: Some(given("demo@turnpike.test", "demo-password")),
        operator: Some(given("operator@turnpike.test", "operator-password")),
    }
}

pub fn given(email: &str, password: &str) -> Credentials {
    Credentials { email: email.to_owned(), password: password.into() }
}
