//! Clients of gRPC that the gateway would have let in, and members of groups among them.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures_util::stream;
use principal::METADATA;
use proto::turnpike::bus::v1::{
    self as wire, Delivery,
    bus_client::BusClient,
    consume_request::{Hello, Message as Said},
    consume_response::Message,
    settlement::Verb,
};
use testkit::FaultProxy;
use tokio::{
    sync::mpsc,
    time::{timeout, timeout_at},
};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt as _;

use crate::{follow::lab::Running, site::SOON};

pub type Client = BusClient<InterceptedService<Channel, Token>>;

/// Shows who calls.
#[derive(Clone)]
pub struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(METADATA, token.clone());
        }
        Ok(request)
    }
}

impl Running {
    pub async fn channel(&self) -> Channel {
        connect(self.address).await
    }

    /// On a connection of its own.
    pub async fn grpc(&self, token: &str) -> Client {
        grpc(self.address, token).await
    }

    /// On a connection that can be cut, as that of a process that is killed.
    pub async fn grpc_far(&self, token: &str) -> (Client, FaultProxy) {
        let proxy = FaultProxy::start(self.address, 7).await;
        (grpc(proxy.address(), token).await, proxy)
    }
}

async fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

pub async fn grpc(address: SocketAddr, token: &str) -> Client {
    let token = (!token.is_empty()).then(|| token.parse().unwrap());
    BusClient::with_interceptor(connect(address).await, Token(token))
}

/// A member of a group.
pub struct Member {
    say: Option<mpsc::UnboundedSender<wire::ConsumeRequest>>,
    hear: Streaming<wire::ConsumeResponse>,
    /// Delivered, and not asked for yet.
    ahead: VecDeque<Delivery>,
}

impl Member {
    /// Has said hello and is welcome.
    pub async fn join(client: &mut Client, group: wire::Group, credit: u32) -> Self {
        let mut member = Self::open(client).await;
        member.say(Said::Hello(Hello { group: Some(group), credit }));
        assert!(matches!(member.next().await, Message::Welcome(_)));
        member
    }

    /// Has said nothing.
    pub async fn open(client: &mut Client) -> Self {
        let (say, mut said) = mpsc::unbounded_channel();
        let requests = stream::poll_fn(move |cx| said.poll_recv(cx));
        let hear = client.consume(requests).await.unwrap().into_inner();
        Self { say: Some(say), hear, ahead: VecDeque::new() }
    }

    pub fn say(&self, message: Said) {
        _ = self.say.as_ref().unwrap().send(wire::ConsumeRequest { message: Some(message) });
    }

    /// Its last word.
    pub fn finish(&mut self) {
        self.say = None;
    }

    pub async fn next(&mut self) -> Message {
        self.heard().await.unwrap().expect("the stream goes on")
    }

    /// The next message; None at the end.
    pub async fn heard(&mut self) -> Result<Option<Message>, Status> {
        let heard = timeout(SOON, self.hear.message()).await.expect("a message");
        let message = heard?.and_then(|heard| heard.message);
        if let Some(Message::Deliveries(batch)) = &message {
            self.ahead.extend(batch.deliveries.iter().cloned());
        }
        Ok(message)
    }

    /// How the stream ended; what comes before is passed over.
    pub async fn ended(&mut self) -> Result<(), Status> {
        while self.heard().await?.is_some() {}
        Ok(())
    }

    /// So many deliveries; what else is said meanwhile is passed over.
    pub async fn deliveries(&mut self, count: usize) -> Vec<Delivery> {
        while self.ahead.len() < count {
            self.next().await;
        }
        self.ahead.drain(..count).collect()
    }

    pub fn settle(&self, deliveries: &[Delivery], verb: Verb) {
        let settlements = deliveries.iter().map(|delivery| settlement(&delivery.token, verb.clone())).collect();
        self.say(Said::Settle(wire::consume_request::Settle { settlements }));
    }

    /// Settles, and hears that it was done.
    pub async fn settled(&mut self, deliveries: &[Delivery], verb: Verb) {
        self.settle(deliveries, verb);
        assert_eq!(self.outcomes().await, vec![None; deliveries.len()]);
    }

    /// Why the next settlements were refused.
    pub async fn outcomes(&mut self) -> Vec<Option<String>> {
        loop {
            if let Message::Settled(settled) = self.next().await {
                return reasons(settled.outcomes);
            }
        }
    }

    /// Nothing is delivered for a moment in which it would have been.
    pub async fn is_quiet(&mut self) {
        assert!(self.ahead.is_empty(), "{:?}", self.ahead);
        let moment = tokio::time::Instant::now() + Duration::from_millis(300);
        while let Ok(heard) = timeout_at(moment, self.hear.message()).await {
            let heard = heard.unwrap().unwrap().message;
            assert!(matches!(heard, Some(Message::Beat(_))), "not quiet: {heard:?}");
        }
    }
}

pub fn reasons(outcomes: Vec<wire::SettleOutcome>) -> Vec<Option<String>> {
    outcomes.into_iter().map(|outcome| outcome.refusal.map(|refusal| refusal.reason)).collect()
}

pub fn settlement(token: &str, verb: Verb) -> wire::Settlement {
    wire::Settlement { token: token.to_owned(), verb: Some(verb) }
}

pub fn ack() -> Verb {
    Verb::Ack(wire::settlement::Ack {})
}

/// Again at once.
pub fn nack() -> Verb {
    let delay = Some(prost_types::Duration::default());
    Verb::Nack(wire::settlement::Nack { reason: "not now".to_owned(), delay, permanent: false })
}

pub fn release() -> Verb {
    Verb::Release(wire::settlement::Release {})
}

pub fn group(name: &str, filter: &str, mode: wire::group::Mode) -> wire::Group {
    wire::Group { name: name.to_owned(), filter: filter.to_owned(), mode: mode.into(), ..wire::Group::default() }
}

pub fn parallel(name: &str) -> wire::Group {
    group(name, "DB/*", wire::group::Mode::Parallel)
}

pub fn event(address: &str, id: &str) -> wire::Event {
    let (queue, event) = address.split_once('/').unwrap();
    let data = Some(wire::event::Data::Json(format!("{{\"n\":{id:?}}}")));
    wire::Event { id: id.to_owned(), queue: queue.to_owned(), event: event.to_owned(), data, ..wire::Event::default() }
}

pub fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.event.as_ref().unwrap().id.as_str()).collect()
}

/// The reason of a refusal of this code.
#[track_caller]
pub fn reason<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code) -> String {
    let status = answer.expect_err("a refusal");
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no reason: {status:?}"));
    assert_eq!(info.domain, "turnpike.dev");
    info.reason.clone()
}
