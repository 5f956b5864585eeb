//! The bus for services in any language: `turnpike.bus.v1` over gRPC, on the same listener as HTTP, by the same rules of access
//! and with the same bounds. What a call does is done where HTTP does it; here it is read, answered and refused as gRPC has
//! it. The reference is `proto/proto/turnpike/bus/v1/bus.proto`.

mod admin;
mod claim;
mod consume;
mod event;
mod group;
mod last_word;
mod moment;
mod outward;
mod page;
mod publish;
mod queues;
mod refusal;
mod settlement;
mod stack;
mod standing;
mod subscribe;

use std::pin::Pin;

use anyhow::Context as _;
use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use futures_util::Stream;
use proto::turnpike::bus::v1::{
    self as wire,
    bus_server::{Bus, BusServer, SERVICE_NAME},
};
use tonic::{Request, Response, Status, Streaming, async_trait};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use self::{consume::Said, last_word::LastWord};
use crate::{access::Caller, problem::Problem, shared::Shared};

/// The most bytes of a request: a batch of events, and what protobuf adds to them.
const MOST_BYTES: usize = 2 << 20;

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

struct Api {
    shared: Shared,
}

/// Whether it serves, as `grpc.health.v1` tells it: of the whole (the empty name) and of the bus.
pub(crate) struct Health(HealthReporter);

impl Health {
    pub(crate) async fn serving() -> Self {
        let health = Self(HealthReporter::new());
        health.set(ServingStatus::Serving).await;
        health
    }

    /// Tells watchers, and ends their streams: a drain waits for every open one.
    pub(crate) async fn drain(&mut self) {
        self.set(ServingStatus::NotServing).await;
        for name in ["", SERVICE_NAME] {
            self.0.clear_service_status(name).await;
        }
        // Whoever asks once more reads NOT_SERVING, not that there is no such service.
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        for name in ["", SERVICE_NAME] {
            self.0.set_service_status(name, status).await;
        }
    }
}

/// The bus, with health and reflection beside it: these must answer callers that have no principal.
pub(crate) fn router(shared: &Shared, health: &Health) -> anyhow::Result<Router> {
    let api = Api { shared: shared.clone() };
    let bus = Router::new()
        .route_service(&route(SERVICE_NAME), BusServer::new(api).max_decoding_message_size(MOST_BYTES))
        .layer(from_fn(last_word::witness))
        // The call relies on the caller it finds.
        .layer(from_fn_with_state(shared.clone(), stack::authenticate))
        .layer(from_fn(stack::count));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .with_service_name(SERVICE_NAME)
        .build_v1()
        .context("reflection")?;
    let health = HealthServer::new(HealthService::from_health_reporter(health.0.clone()));
    Ok(bus
        .route_service(&route("grpc.health.v1.Health"), health)
        .route_service(&route("grpc.reflection.v1.ServerReflection"), reflection))
}

fn route(service: &str) -> String {
    format!("/{service}/{{method}}")
}

impl Api {
    /// Who calls: the layers have put that beside the request.
    fn asked<T>(request: Request<T>) -> Result<(Caller, T), Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::internal("internal error"))?;
        Ok((caller, request.into_inner()))
    }

    async fn answer<T, U>(
        &self,
        request: Request<T>,
        answer: impl AsyncFnOnce(&Shared, &Caller, T) -> Result<U, Problem>,
    ) -> Answer<U> {
        let (caller, asked) = Self::asked(request)?;
        Ok(Response::new(answer(&self.shared, &caller, asked).await?))
    }
}

#[async_trait]
impl Bus for Api {
    type PublishStreamStream = Answers<wire::PublishResponse>;
    type ConsumeStream = Answers<wire::ConsumeResponse>;
    type SubscribeStream = Answers<wire::SubscribeResponse>;

    async fn publish(&self, request: Request<wire::PublishRequest>) -> Answer<wire::PublishResponse> {
        self.answer(request, publish::publish).await
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<wire::PublishRequest>>,
    ) -> Answer<Self::PublishStreamStream> {
        let (caller, requests) = Self::asked(request)?;
        Ok(Response::new(Box::pin(publish::stream(&self.shared, caller, requests)?)))
    }

    async fn claim(&self, request: Request<wire::ClaimRequest>) -> Answer<wire::ClaimResponse> {
        self.answer(request, claim::claim).await
    }

    async fn settle(&self, request: Request<wire::SettleRequest>) -> Answer<wire::SettleResponse> {
        self.answer(request, settlement::settle).await
    }

    async fn consume(&self, request: Request<Streaming<wire::ConsumeRequest>>) -> Answer<Self::ConsumeStream> {
        let last_word = request.extensions().get::<LastWord>().cloned().unwrap_or_default();
        let (caller, requests) = Self::asked(request)?;
        Ok(Response::new(Box::pin(consume::consume(&self.shared, caller, Said { requests, last_word })?)))
    }

    async fn subscribe(&self, request: Request<wire::SubscribeRequest>) -> Answer<Self::SubscribeStream> {
        let (caller, asked) = Self::asked(request)?;
        Ok(Response::new(Box::pin(subscribe::subscribe(&self.shared, &caller, asked).await?)))
    }

    async fn get_event(&self, request: Request<wire::GetEventRequest>) -> Answer<wire::Event> {
        self.answer(request, standing::event).await
    }

    async fn get_status(&self, request: Request<wire::GetStatusRequest>) -> Answer<wire::EventStatus> {
        self.answer(request, standing::status).await
    }

    async fn cancel(&self, request: Request<wire::CancelRequest>) -> Answer<wire::CancelResponse> {
        self.answer(request, publish::cancel).await
    }

    async fn list_queues(&self, request: Request<wire::ListQueuesRequest>) -> Answer<wire::ListQueuesResponse> {
        self.answer(request, queues::list).await
    }

    async fn put_queue(&self, request: Request<wire::PutQueueRequest>) -> Answer<wire::Queue> {
        self.answer(request, queues::put).await
    }

    async fn list_groups(&self, request: Request<wire::ListGroupsRequest>) -> Answer<wire::ListGroupsResponse> {
        self.answer(request, admin::list_groups).await
    }

    async fn get_group(&self, request: Request<wire::GetGroupRequest>) -> Answer<wire::GroupStatus> {
        self.answer(request, admin::get_group).await
    }

    async fn declare_group(&self, request: Request<wire::DeclareGroupRequest>) -> Answer<wire::DeclareGroupResponse> {
        self.answer(request, group::declare).await
    }

    async fn list_dead_letters(
        &self,
        request: Request<wire::ListDeadLettersRequest>,
    ) -> Answer<wire::ListDeadLettersResponse> {
        self.answer(request, admin::list_dead_letters).await
    }

    async fn redrive(&self, request: Request<wire::RedriveRequest>) -> Answer<wire::RedriveResponse> {
        self.answer(request, admin::redrive).await
    }

    async fn discard(&self, request: Request<wire::DiscardRequest>) -> Answer<wire::DiscardResponse> {
        self.answer(request, admin::discard).await
    }

    async fn seek(&self, request: Request<wire::SeekRequest>) -> Answer<wire::SeekResponse> {
        self.answer(request, admin::seek).await
    }

    async fn list_connections(
        &self,
        request: Request<wire::ListConnectionsRequest>,
    ) -> Answer<wire::ListConnectionsResponse> {
        self.answer(request, admin::list_connections).await
    }
}
