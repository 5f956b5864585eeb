//! `grpc.health.v1` of every service behind the listener, and of the listener as a whole (the empty name).

use tonic::{body::Body, server::NamedService};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Service;

/// Says what serves. Starts with NOT_SERVING.
pub(crate) struct Health {
    reporter: HealthReporter,
    names: Vec<&'static str>,
}

impl Health {
    /// `names` are those of the gRPC services.
    pub async fn new(names: &[&'static str]) -> Self {
        let names = names.iter().copied().chain([""]).collect();
        let health = Self { reporter: HealthReporter::new(), names };
        health.set(ServingStatus::NotServing).await;
        health
    }

    /// The gRPC service that answers.
    pub fn server(
        &self,
    ) -> impl Service<
        http::Request<Body>,
        Response = http::Response<Body>,
        Error = std::convert::Infallible,
        Future: Send + 'static,
    > + NamedService
    + Clone
    + Send
    + Sync
    + 'static {
        let service = tonic_health::server::HealthService::from_health_reporter(self.reporter.clone());
        tonic_health::pb::health_server::HealthServer::new(service)
    }

    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// Tells watchers, and ends their streams: a drain waits for every open one.
    pub async fn drain(&mut self) {
        self.set(ServingStatus::NotServing).await;
        for name in &self.names {
            self.reporter.clear_service_status(name).await;
        }
        // Whoever asks once more reads NOT_SERVING, not that there is no such service.
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        for name in &self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
