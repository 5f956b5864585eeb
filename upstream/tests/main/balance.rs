use futures_util::future::join_all;
use upstream::Protocol;

use crate::service::{SAFE, Service, client, get, hello_slowly, text, upstream};

#[tokio::test]
async fn two_endpoints_share_the_requests() {
    let (one, two) = (Service::http1(hello_slowly).await, Service::http1(hello_slowly).await);
    let client = client(Protocol::Http1, &[one.address, two.address]);
    let workers = (0..16).map(|_| async {
        for _ in 0..20 {
            text(client.send(get("/"), SAFE).await.unwrap()).await;
        }
    });
    join_all(workers).await;
    assert_eq!(one.requests() + two.requests(), 320);
    assert!(one.requests() > 80 && two.requests() > 80, "{} and {}", one.requests(), two.requests());
}

#[tokio::test]
async fn requests_under_way_show_until_their_bodies_end() {
    let service = Service::http1(|_| async { http::Response::new(crate::stream::endless()) }).await;
    let upstream = upstream(Protocol::Http1, &[service.address]);
    let client = upstream.client();
    let response = client.send(get("/"), SAFE).await.unwrap();
    assert_eq!(upstream.endpoints()[0].in_flight, 1);
    drop(response);
    assert_eq!(upstream.endpoints()[0].in_flight, 0);
}
