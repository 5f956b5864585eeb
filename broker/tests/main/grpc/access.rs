//! Who may do what over gRPC; health and reflection are for everybody.

use proto::turnpike::bus::v1::{
    self as wire,
    bus_server::SERVICE_NAME,
    consume_request::{Credit, Hello, Message as Said},
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::fleet::{Member, event, parallel, reason};
use crate::follow::lab::Lab;

fn publish(address: &str) -> wire::PublishRequest {
    wire::PublishRequest { events: vec![event(address, "1")], confirm: None }
}

fn claim(group: &str) -> wire::ClaimRequest {
    wire::ClaimRequest { group: group.to_owned(), member: "m".to_owned(), ..wire::ClaimRequest::default() }
}

#[tokio::test]
async fn nobody_in_particular_may_do_nothing() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut nobody = broker.grpc("").await;
    let unauthenticated = Code::Unauthenticated;
    assert_eq!(reason(nobody.publish(publish("DB/CREATE")).await, unauthenticated), "UNAUTHENTICATED");
    assert_eq!(reason(nobody.claim(claim("billing")).await, unauthenticated), "UNAUTHENTICATED");
    let filter = wire::SubscribeRequest { filter: "DB/*".to_owned(), ..wire::SubscribeRequest::default() };
    assert_eq!(reason(nobody.subscribe(filter).await, unauthenticated), "UNAUTHENTICATED");
    assert_eq!(
        reason(nobody.list_queues(wire::ListQueuesRequest::default()).await, unauthenticated),
        "UNAUTHENTICATED"
    );
    let nothing = futures_util::stream::empty::<wire::ConsumeRequest>();
    assert_eq!(reason(nobody.consume(nothing).await, unauthenticated), "UNAUTHENTICATED");
    let mut forged = broker.grpc("not.a.token").await;
    assert_eq!(reason(forged.publish(publish("DB/CREATE")).await, unauthenticated), "UNAUTHENTICATED");
}

#[tokio::test]
async fn each_verb_takes_its_scope() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let scopes = &["events:read:DB/*", "events:write:DB/CREATE", "events:consume:billing"];
    let mut bob = broker.grpc(&lab.token("bob", scopes)).await;
    bob.publish(publish("DB/CREATE")).await.unwrap();
    let denied = Code::PermissionDenied;
    assert_eq!(reason(bob.publish(publish("DB/DELETE")).await, denied), "FORBIDDEN");
    assert_eq!(reason(bob.publish(publish("SYS/CREATE")).await, denied), "FORBIDDEN");
    assert_eq!(reason(bob.list_groups(wire::ListGroupsRequest::default()).await, denied), "FORBIDDEN");
    let letters = wire::ListDeadLettersRequest { group: "billing".into(), ..wire::ListDeadLettersRequest::default() };
    assert_eq!(reason(bob.list_dead_letters(letters).await, denied), "FORBIDDEN");
    assert_eq!(reason(bob.list_connections(wire::ListConnectionsRequest::default()).await, denied), "FORBIDDEN");
    let filter = wire::SubscribeRequest { filter: "ORDERS/*".to_owned(), ..wire::SubscribeRequest::default() };
    assert_eq!(reason(bob.subscribe(filter).await, denied), "FORBIDDEN");
    let declare = |group| wire::DeclareGroupRequest { group: Some(group) };
    bob.declare_group(declare(parallel("billing"))).await.unwrap();
    let wider = wire::Group { filter: "ORDERS/*".into(), ..parallel("billing") };
    assert_eq!(reason(bob.declare_group(declare(wider)).await, denied), "FORBIDDEN");
}

#[tokio::test]
async fn a_foreign_group_is_not_worked_for() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    lab.publish("DB/CREATE", 0..1).await;
    let mut owner = broker.grpc(&lab.token("a", &["events:read:DB/*", "events:consume:logger"])).await;
    let mut member = Member::join(&mut owner, parallel("logger"), 1).await;
    let token = member.deliveries(1).await.remove(0).token;
    let mut bob = broker.grpc(&lab.token("bob", &["events:read:*/*", "events:consume:billing"])).await;
    let denied = Code::PermissionDenied;
    assert_eq!(reason(bob.claim(claim("logger")).await, denied), "FORBIDDEN");
    let settlements = vec![super::fleet::settlement(&token, super::fleet::ack())];
    let settle = |group: &str| wire::SettleRequest { group: group.to_owned(), settlements: settlements.clone() };
    assert_eq!(reason(bob.settle(settle("logger")).await, denied), "FORBIDDEN");
    let mut stranger = Member::open(&mut bob).await;
    stranger.say(Said::Hello(Hello { group: Some(parallel("logger")), credit: 1 }));
    assert_eq!(reason(stranger.ended().await, denied), "FORBIDDEN");
    // Not even with the token, in a group of its own.
    bob.declare_group(wire::DeclareGroupRequest { group: Some(parallel("billing")) }).await.unwrap();
    let outcomes = bob.settle(settle("billing")).await.unwrap().into_inner().outcomes;
    assert_eq!(super::fleet::reasons(outcomes), [Some("LEASE_LOST".to_owned())]);
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_hello_is_refused() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut alice = broker.grpc(&lab.operator_who_reads()).await;
    let mut member = Member::open(&mut alice).await;
    member.say(Said::Credit(Credit { credit: 1 }));
    assert_eq!(reason(member.ended().await, Code::InvalidArgument), "INVALID");
    let mut member = Member::open(&mut alice).await;
    member.say(Said::Hello(Hello { group: Some(parallel("two words")), credit: 1 }));
    assert_eq!(reason(member.ended().await, Code::InvalidArgument), "INVALID");
    let mut member = Member::join(&mut alice, parallel("billing"), 1).await;
    member.say(Said::Credit(Credit { credit: 1001 }));
    assert_eq!(reason(member.ended().await, Code::InvalidArgument), "INVALID");
}

#[tokio::test]
async fn health_answers_everybody_and_reflection_names_the_bus_alone() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    for service in ["", SERVICE_NAME] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = HealthClient::new(broker.channel().await).check(request).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
    }
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(broker.channel().await);
    let answers = client.server_reflection_info(futures_util::stream::iter([list])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else { panic!("{answer:?}") };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, [SERVICE_NAME]);
}
