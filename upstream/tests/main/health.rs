use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic_health::ServingStatus;
use upstream::{Body, Caps, Config, Health, Protocol, Upstream};

use crate::service::{SAFE, Service, config, get, hello, text, trailers_only, until};

const SOON: Duration = Duration::from_millis(20);

fn checked(config: Config) -> (Upstream, DropGuard) {
    let path = (config.protocol != Protocol::Grpc).then(|| "/livez".to_owned());
    let health = Some(Health { interval: SOON, timeout: Duration::from_millis(500), path });
    let upstream = Upstream::new(Config { health, ..config }).unwrap();
    let stop = CancellationToken::new();
    let (checking, stopped) = (upstream.clone(), stop.clone());
    tokio::spawn(async move { checking.watch(stopped).await });
    (upstream, stop.drop_guard())
}

#[tokio::test]
async fn an_instance_that_says_it_drains_leaves_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reporter, service) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let (upstream, _checking) = checked(config(Protocol::Grpc, &[address]));
    until("it is found serving", || upstream.endpoints()[0].reason == "serving").await;
    reporter.set_service_status("", ServingStatus::NotServing).await;
    until("it leaves", || !upstream.endpoints()[0].healthy).await;
    assert_eq!(upstream.endpoints()[0].reason, "says it is not serving");
    reporter.set_service_status("", ServingStatus::Serving).await;
    until("it is back", || upstream.endpoints()[0].healthy).await;
    assert_eq!(upstream.endpoints()[0].reason, "serving");
}

#[tokio::test]
async fn a_service_without_the_health_service_is_well_as_long_as_it_answers() {
    let mut service = Service::http2(|_| async { trailers_only(&[("grpc-status", "12")]) }).await;
    let (upstream, _checking) = checked(config(Protocol::Grpc, &[service.address]));
    until("it is asked", || upstream.endpoints()[0].reason.contains("no grpc.health.v1")).await;
    let asked = service.requests();
    until("it is asked again and again", || service.requests() > asked + 5).await;
    assert_eq!((upstream.endpoints()[0].healthy, upstream.endpoints()[0].state), (true, "well"));
    service.kill().await;
    until("it is down", || !upstream.endpoints()[0].healthy).await;
}

#[tokio::test]
async fn no_cap_stands_between_a_check_and_its_endpoint_nor_a_check_between_a_request_and_its_own() {
    let service = Service::http1(|request: Request<_>| async move {
        if request.uri().path() != "/livez" {
            tokio::time::sleep(SOON * 20).await;
        }
        Response::new(Body::from("hello"))
    })
    .await;
    let caps = Caps { connections: 1, pending: 1, requests: 1 };
    let (upstream, _checking) = checked(Config { caps, ..config(Protocol::Http1, &[service.address]) });
    let client = upstream.client();
    until("it is checked", || upstream.endpoints()[0].reason == "answers its health path").await;
    for _ in 0..3 {
        // Checks go on meanwhile, and each has to do without the connection that is taken.
        let response = client.send(get("/"), SAFE).await.unwrap();
        assert_eq!((upstream.endpoints()[0].healthy, text(response).await.as_str()), (true, "hello"));
    }
}

#[tokio::test]
async fn a_failing_health_path_takes_an_endpoint_out_of_rotation_until_it_heals() {
    let is_well = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&is_well);
    let sick = Service::http1(move |request: Request<_>| {
        let status = if request.uri().path() == "/livez" && !asked.load(SeqCst) { 503 } else { 200 };
        async move { Response::builder().status(status).header("x-from", "sick").body(Body::empty()).unwrap() }
    })
    .await;
    let well = Service::http1(hello).await;
    let (upstream, _checking) = checked(config(Protocol::Http1, &[sick.address, well.address]));
    let client = upstream.client();
    is_well.store(false, SeqCst);
    until("it is out", || !upstream.endpoints()[0].healthy).await;
    assert_eq!(upstream.endpoints()[0].reason, "GET /livez answers 503 Service Unavailable");
    for _ in 0..50 {
        let response = client.send(get("/"), SAFE).await.unwrap();
        assert!(!response.headers().contains_key("x-from"));
        text(response).await;
    }
    is_well.store(true, SeqCst);
    until("it is back", || upstream.endpoints()[0].healthy).await;
    let mut back = false;
    for _ in 0..50 {
        let response = client.send(get("/"), SAFE).await.unwrap();
        back |= response.headers().contains_key("x-from");
        text(response).await;
    }
    assert!(back, "it gets traffic again");
}

#[tokio::test]
async fn a_dead_instance_is_down_with_the_reason_and_heals_when_restarted() {
    let mut service = Service::http1(hello).await;
    let address = service.address;
    let (upstream, _checking) = checked(config(Protocol::Http1, &[address]));
    until("it is found well", || upstream.endpoints()[0].reason == "answers its health path").await;
    service.kill().await;
    until("it is down", || !upstream.endpoints()[0].healthy).await;
    let reason = upstream.endpoints()[0].reason.clone();
    assert!(reason.starts_with("can't connect"), "{reason}");
    let _again = Service::http1_at(address, hello).await;
    until("it is back", || upstream.endpoints()[0].healthy).await;
}

#[tokio::test]
async fn one_that_never_answers_is_down() {
    let service = Service::http1(|_| std::future::pending()).await;
    let health = Some(Health { interval: SOON, timeout: SOON, path: Some("/livez".to_owned()) });
    let upstream = Upstream::new(Config { health, ..config(Protocol::Http1, &[service.address]) }).unwrap();
    let stop = CancellationToken::new();
    let checks = upstream.watch(stop.clone());
    let seen = async {
        until("it is down", || !upstream.endpoints()[0].healthy).await;
        stop.cancel();
    };
    futures_util::future::join(checks, seen).await;
    assert_eq!(upstream.endpoints()[0].reason, "no answer within the deadline");
}
