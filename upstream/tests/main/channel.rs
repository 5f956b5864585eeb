//! Generated tonic clients over an upstream.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tonic::{Code, Request};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use upstream::{
    Protocol,
    grpc::{Channel, Idempotent},
};

use crate::service::{Service, grpc, nobody, trailers_only, upstream};

/// An encoded `HealthCheckResponse { status: SERVING }`.
const SERVING: &[u8] = &[8, 1];

fn stub(endpoints: &[std::net::SocketAddr]) -> HealthClient<Channel> {
    HealthClient::new(upstream(Protocol::Grpc, endpoints).channel())
}

fn question() -> Request<HealthCheckRequest> {
    Request::new(HealthCheckRequest { service: "shop".to_owned() })
}

#[tokio::test]
async fn a_generated_client_calls_and_is_answered() {
    let service = Service::http2(|request: http::Request<hyper::body::Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, Bytes::from_static(b"\0\0\0\0\x06\x0a\x04shop"));
        grpc(&[SERVING], &[("grpc-status", "0")])
    })
    .await;
    let reply = stub(&[service.address]).check(question()).await.unwrap();
    assert_eq!(reply.into_inner().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn a_generated_client_reads_a_stream() {
    let service = Service::http2(|_| async { grpc(&[SERVING, SERVING], &[("grpc-status", "0")]) }).await;
    let mut stream = stub(&[service.address]).watch(question()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert!(stream.message().await.unwrap().is_some());
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn what_goes_wrong_is_a_status() {
    let refused = stub(&[nobody().await]).check(question()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("can't connect"), "{refused}");

    let service = Service::http2(|_| async { trailers_only(&[("grpc-status", "5"), ("grpc-message", "none")]) }).await;
    let missing = stub(&[service.address]).check(question()).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "none"));
}

#[tokio::test]
async fn the_calls_timeout_is_its_deadline() {
    let silent = Service::http2(|_| std::future::pending()).await;
    let mut request = question();
    request.set_timeout(Duration::from_millis(100));
    let status = stub(&[silent.address]).check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);

    let stuck = Service::http2(|_| async {
        let mut response = grpc(&[SERVING], &[]);
        let first = std::mem::take(response.body_mut());
        *response.body_mut() = crate::stream::then(first, std::future::pending());
        response
    })
    .await;
    let mut request = question();
    request.set_timeout(Duration::from_millis(300));
    let mut stream = stub(&[stuck.address]).watch(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert_eq!(stream.message().await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn only_a_call_marked_idempotent_is_repeated() {
    let away = Service::http2(|_| async { trailers_only(&[("grpc-status", "14")]) }).await;
    let marked = || {
        let mut request = question();
        request.extensions_mut().insert(Idempotent);
        request
    };
    let mut stub = stub(&[away.address]);
    assert_eq!(stub.check(question()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(away.requests(), 1);
    assert_eq!(stub.check(marked()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(away.requests(), 3);
}
