use bytes::Bytes;
use http::{HeaderMap, Response};
use upstream::{Body, Client, Config, Protocol, Upstream, grpc::Status};

use crate::service::{SAFE, Service, UNSAFE, client, config, grpc, nobody, trailers_only};

async fn call(client: &Client) -> Result<Bytes, Status> {
    client.unary("/a.B/C", HeaderMap::new(), Bytes::from_static(b"question"), UNSAFE).await.map(|reply| reply.message)
}

async fn answered(answer: fn() -> Response<Body>) -> Result<Bytes, Status> {
    let service = Service::http2(move |_| async move { answer() }).await;
    call(&client(Protocol::Grpc, &[service.address])).await
}

#[tokio::test]
async fn a_unary_call_carries_metadata_both_ways() {
    let service = Service::http2(|request: http::Request<hyper::body::Incoming>| async move {
        let headers = request.headers();
        assert_eq!(request.method(), http::Method::POST);
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(headers["grpc-accept-encoding"], "identity");
        let mut response = grpc(&[request.uri().path().as_bytes()], &[("grpc-status", "0"), ("x-trailer", "t")]);
        response.headers_mut().insert("x-header", headers["x-asked"].clone());
        response
    })
    .await;
    let metadata = HeaderMap::from_iter([(http::HeaderName::from_static("x-asked"), "yes".parse().unwrap())]);
    let client = client(Protocol::Grpc, &[service.address]);
    let reply = client.unary("/a.B/C", metadata, Bytes::new(), UNSAFE).await.unwrap();
    assert_eq!(reply.message, "/a.B/C");
    assert_eq!(reply.metadata["x-header"], "yes");
    assert_eq!(reply.trailers["x-trailer"], "t");
}

#[tokio::test]
async fn a_status_comes_with_its_message_and_details() {
    let fields =
        [("grpc-status", "3"), ("grpc-message", "bad%20%22name%22"), ("grpc-status-details-bin", "CAMSA2JhZA")];
    for answer in [trailers_only as fn(&[(&'static str, &str)]) -> _, |fields| grpc(&[], fields)] {
        let service = Service::http2(move |_| async move { answer(&fields) }).await;
        let status = call(&client(Protocol::Grpc, &[service.address])).await.unwrap_err();
        assert_eq!((status.code, status.message.as_str(), status.local), (3, "bad \"name\"", None));
        assert_eq!(&status.details[..], b"\x08\x03\x12\x03bad");
    }
}

#[tokio::test]
async fn a_status_after_a_message_wins() {
    assert_eq!(answered(|| grpc(&[b"half"], &[("grpc-status", "15")])).await.unwrap_err().code, 15);
}

#[tokio::test]
async fn answers_that_are_no_grpc_are_told_apart() {
    let unavailable = answered(|| Response::builder().status(503).body(Body::from("<html>")).unwrap()).await;
    assert_eq!(unavailable.unwrap_err().code, 14);
    let page = answered(|| Response::new(Body::from("<html>"))).await;
    assert_eq!(page.unwrap_err().code, 2);
    let no_status = answered(|| grpc(&[b"answer"], &[("x-other", "1")])).await;
    assert_eq!(no_status.unwrap_err().code, 2);
    let two = answered(|| grpc(&[b"one", b"two"], &[("grpc-status", "0")])).await;
    assert_eq!(two.unwrap_err().code, 13);
    let none = answered(|| grpc(&[], &[("grpc-status", "0")])).await;
    assert_eq!(none.unwrap_err().code, 13);
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused() {
    let service = Service::http2(|_| async { grpc(&[&[7; 2000]], &[("grpc-status", "0")]) }).await;
    let small = Config { max_message: 1999, ..config(Protocol::Grpc, &[service.address]) };
    assert_eq!(call(&Upstream::new(small).unwrap().client()).await.unwrap_err().code, 8);
    let enough = Config { max_message: 2000, ..config(Protocol::Grpc, &[service.address]) };
    assert_eq!(call(&Upstream::new(enough).unwrap().client()).await.unwrap().len(), 2000);
}

#[tokio::test]
async fn a_large_message_passes_both_ways() {
    let service = Service::http2(|request: http::Request<hyper::body::Incoming>| async move {
        use http_body_util::BodyExt as _;
        let framed = request.into_body().collect().await.unwrap().to_bytes();
        grpc(&[&framed[5..]], &[("grpc-status", "0")])
    })
    .await;
    let client = client(Protocol::Grpc, &[service.address]);
    let message: Bytes = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let reply = client.unary("/a.B/C", HeaderMap::new(), message.clone(), UNSAFE).await.unwrap();
    assert!(reply.message == message);
}

#[tokio::test]
async fn a_stream_ends_with_its_status() {
    let service = Service::http2(|_| async { grpc(&[b"one", b"two"], &[("grpc-status", "0")]) }).await;
    let sound = client(Protocol::Grpc, &[service.address]);
    let mut stream = sound.streaming("/a.B/C", HeaderMap::new(), Bytes::new(), UNSAFE).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "one");
    assert_eq!(stream.next().await.unwrap().unwrap(), "two");
    assert!(stream.next().await.is_none());
    assert!(stream.next().await.is_none());

    let service = Service::http2(|_| async { grpc(&[b"one"], &[("grpc-status", "10")]) }).await;
    let failing = client(Protocol::Grpc, &[service.address]);
    let mut stream = failing.streaming("/a.B/C", HeaderMap::new(), Bytes::new(), UNSAFE).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "one");
    assert_eq!(stream.next().await.unwrap().unwrap_err().code, 10);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_unavailable() {
    let service = Service::http2(|_| async {
        let mut response = grpc(&[b"one"], &[]);
        let first = std::mem::take(response.body_mut());
        *response.body_mut() = crate::stream::then(first, std::future::pending());
        response
    })
    .await;
    let client = client(Protocol::Grpc, &[service.address]);
    let mut stream = client.streaming("/a.B/C", HeaderMap::new(), Bytes::new(), UNSAFE).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "one");
    drop(service);
    let status = stream.next().await.unwrap().unwrap_err();
    assert_eq!((status.code, status.local), (14, Some(upstream::ErrorKind::Broken)));
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let status = call(&client(Protocol::Grpc, &[nobody().await])).await.unwrap_err();
    assert_eq!((status.code, status.local), (14, Some(upstream::ErrorKind::Unreachable)));
}

#[tokio::test]
async fn an_unavailable_answer_is_tried_elsewhere_if_it_may_be() {
    let away = Service::http2(|_| async { trailers_only(&[("grpc-status", "14")]) }).await;
    let there = Service::http2(|_| async { grpc(&[b"answer"], &[("grpc-status", "0")]) }).await;
    for calls in 1..=20 {
        let client = client(Protocol::Grpc, &[away.address, there.address]);
        client.unary("/a.B/C", HeaderMap::new(), Bytes::new(), SAFE).await.unwrap();
        assert_eq!(there.requests(), calls);
    }
    assert!(away.requests() > 0);
}

#[tokio::test]
async fn an_unavailable_answer_is_final_if_the_call_may_have_done_something() {
    let away = Service::http2(|_| async { trailers_only(&[("grpc-status", "14"), ("grpc-message", "away")]) }).await;
    let status = call(&client(Protocol::Grpc, &[away.address])).await.unwrap_err();
    assert_eq!((status.code, status.message.as_str(), status.local), (14, "away", None));
    assert_eq!(away.requests(), 1);
}
