//! What happens to a call on its way to the RPC.

use std::time::Duration;

use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::TracerProvider as _;
use principal::{RootSecret, Signer};
use proto::shop::customer::v1::customer_service_client::CustomerServiceClient;
use tokio::task::JoinSet;
use tonic::Code;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::shell::{ask, ask_as, start};

#[tokio::test]
async fn a_caller_arrives_as_the_gateway_signed_it() {
    let shell = start().await;
    let answer = shell.client().await.create_account(ask_as("who", &shell.token())).await.unwrap();
    assert_eq!(answer.into_inner().name, "customers/alice");
}

#[tokio::test]
async fn a_call_without_a_principal_is_anonymous() {
    let shell = start().await;
    let mut client = shell.client().await;
    assert!(client.create_account(ask("hello")).await.is_ok());
    assert_eq!(client.create_account(ask("who")).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_forged_principal_is_refused_even_where_none_is_needed() {
    let shell = start().await;
    let mut client = shell.client().await;
    let forged = Signer::new("gateway", &RootSecret::generate()).sign(&shell.alice());
    assert_eq!(client.create_account(ask_as("hello", &forged)).await.unwrap_err().code(), Code::Unauthenticated);
    let mut twice = ask_as("hello", &shell.token());
    twice.metadata_mut().append(principal::METADATA, shell.token().parse().unwrap());
    assert_eq!(client.create_account(twice).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_principal_whose_keys_are_away_may_come_again() {
    let shell = start().await;
    let token = Signer::new("away", &shell.root).sign(&shell.alice());
    let status = shell.client().await.create_account(ask_as("who", &token)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_panic_costs_its_own_call_only() {
    let shell = start().await;
    let mut client = shell.client().await;
    let status = client.create_account(ask("panic")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    assert!(client.create_account(ask("hello")).await.is_ok());
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_so_does_the_work_for_it() {
    let shell = start().await;
    // Over a bare HTTP/2 client: tonic's own gives up by itself at the same moment.
    let bare = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let origin = format!("http://{}", shell.address).parse().unwrap();
    let mut client = CustomerServiceClient::with_origin(bare, origin);
    let mut request = ask("wait");
    request.metadata_mut().insert("grpc-timeout", "200m".parse().unwrap());
    assert_eq!(client.create_account(request).await.unwrap_err().code(), Code::DeadlineExceeded);
    shell.until_open(0).await;
}

#[tokio::test]
async fn an_rpc_knows_its_deadline() {
    let shell = start().await;
    let mut client = shell.client().await;
    for (timeout, range) in [
        (Some("2S"), 1_000..=2_000),
        (None, 10_000..=15_000),
        // Longer than anybody may ask for, and not a timeout at all.
        (Some("99999999H"), 50_000..=60_000),
        (Some("soon"), 10_000..=15_000),
    ] {
        let mut request = ask("until");
        if let Some(timeout) = timeout {
            request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        let left: u64 = client.create_account(request).await.unwrap().into_inner().name.parse().unwrap();
        assert!(range.contains(&left), "{timeout:?}: {left} ms");
    }
}

#[tokio::test]
async fn a_full_service_refuses_at_once_and_its_health_still_answers() {
    let shell = start().await;
    let mut waiting = JoinSet::new();
    // Over several connections: one carries 256 calls at once.
    for _ in 0..4 {
        let client = shell.client().await;
        for _ in 0..256 {
            let mut client = client.clone();
            waiting.spawn(async move { client.create_account(ask("wait")).await });
        }
    }
    shell.until_open(1024).await;
    let mut client = shell.client().await;
    let refused = tokio::time::timeout(Duration::from_secs(5), client.create_account(ask("hello")));
    assert_eq!(refused.await.unwrap().unwrap_err().code(), Code::Unavailable);
    let mut health = tonic_health::pb::health_client::HealthClient::new(shell.channel().await);
    assert!(health.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok());

    shell.desk.release.add_permits(1024);
    while let Some(answer) = waiting.join_next().await {
        assert!(answer.unwrap().is_ok());
    }
    assert!(shell.client().await.create_account(ask("hello")).await.is_ok());
}

#[tokio::test]
async fn calls_are_counted_by_method_and_code_and_made_up_methods_are_not() {
    let shell = start().await;
    let mut client = shell.client().await;
    client.create_account(ask("hello")).await.unwrap();
    client.create_account(ask("who")).await.unwrap_err();
    let mut grpc = tonic::client::Grpc::new(shell.channel().await);
    grpc.ready().await.unwrap();
    let path = "/shop.customer.v1.CustomerService/MadeUp".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let status = grpc.unary(tonic::Request::new(()), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);

    let metrics = telemetry::render();
    let counted = |method: &str, code: &str| {
        let label = |name: &str, value: &str| format!("{name}=\"{value}\"");
        metrics.lines().any(|line| {
            line.starts_with("turnpike_grpc_requests_total{")
                && line.contains(&label("method", method))
                && line.contains(&label("code", code))
        })
    };
    assert!(counted("CreateAccount", "OK"), "{metrics}");
    assert!(counted("CreateAccount", "UNAUTHENTICATED"), "{metrics}");
    assert!(counted("unknown", "UNIMPLEMENTED"), "{metrics}");
    assert!(!metrics.contains("MadeUp"));
    assert!(metrics.contains("turnpike_grpc_request_seconds_bucket{"), "{metrics}");
}

#[tokio::test]
async fn a_call_and_the_calls_it_makes_belong_to_the_caller_s_trace() {
    let tracer = opentelemetry_sdk::trace::SdkTracerProvider::default();
    let layer = tracing_opentelemetry::layer().with_tracer(tracer.tracer("test"));
    tracing_subscriber::registry().with(layer).init();
    let shell = start().await;
    let mut client = shell.client().await;
    for what in ["trace", "forward"] {
        let mut request = ask(what);
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        let here = client.create_account(request).await.unwrap().into_inner().name;
        assert_eq!(here[..36], parent[..36], "{what}");
        assert_ne!(here, parent, "{what} is a span of its own");
    }
}
