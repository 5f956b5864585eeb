//! A customer service with the accounts of a demonstration.

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
        Self { instance: start(&stage, Some(demo())).await.unwrap(), stage }
    }
}

impl Shop {
    /// Starts another instance.
    pub async fn start(&self, demo: Option<customer::Demo>) -> anyhow::Result<Instance> {
        start(&self.stage, demo).await
    }

    pub fn accounts(&self) -> CustomerServiceClient<Caller> {
        CustomerServiceClient::new(self.instance.anyone())
    }

    pub fn door(&self) -> AuthenticatorClient<Caller> {
        AuthenticatorClient::new(self.instance.anyone())
    }
}

async fn start(stage: &Stage, demo: Option<customer::Demo>) -> anyhow::Result<Instance> {
    let service = customer::build(customer::Config { service: stage.config(), demo }).await?;
    Ok(stage.start(service))
}

/// The credentials the shop starts with.
pub fn demo() -> customer::Demo {
    customer::Demo {
        email: "demo@turnpike.test".to_owned(),
        password: "demo-password".into(),
        operator_email: "operator@turnpike.test".to_owned(),
        operator_password: "operator-password".into(),
    }
}
