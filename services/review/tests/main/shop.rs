//! A review service with demo data, and who calls it.

use proto::shop::review::v1::review_service_client::ReviewServiceClient;
use stage::{Caller, Instance, Scene, Stage};

pub type Client = ReviewServiceClient<Caller>;

pub struct Shop {
    pub stage: Stage,
    instance: Instance,
}

impl Scene for Shop {
    async fn on(stage: Stage) -> Self {
        Self { instance: start(&stage).await, stage }
    }
}

impl Shop {
    /// Starts another instance.
    pub async fn start(&self) -> Instance {
        start(&self.stage).await
    }

    pub fn customer(&self, name: &str) -> Client {
        self.caller(&format!("customers/{name}"))
    }

    pub fn caller(&self, subject: &str) -> Client {
        ReviewServiceClient::new(self.instance.caller(subject, &["shop"]))
    }

    pub fn anyone(&self) -> Client {
        ReviewServiceClient::new(self.instance.anyone())
    }
}

async fn start(stage: &Stage) -> Instance {
    let config = service::Config { seed: true, ..stage.config() };
    stage.start(review::build(config).await.unwrap())
}
