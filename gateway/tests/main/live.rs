//! Streams that stay open: who may open them, and what doesn't end them.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use gateway::Body;
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest as _};

use crate::{
    proxy::{serve, websocket},
    running::{Running, echo},
    session::{GOOD, authenticator},
};

/// Opens a WebSocket with these header fields, sends a word and expects it back; or the status that refuses it.
async fn open(gateway: &Running, headers: &[(&'static str, &str)]) -> Result<(), StatusCode> {
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((mut socket, _)) => {
            socket.send(Message::text("hello")).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
            Ok(())
        }
        Err(tungstenite::Error::Http(response)) => Err(response.status()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn only_our_own_pages_open_a_websocket_with_a_session() {
    let customers = authenticator().await;
    let gateway = Running::start(&format!(
        "upstreams: {{customers: {{endpoints: ['{}'], protocol: grpc}}, web: {{endpoints: ['{}']}}}}\n\
         authentication: {{session: {{upstream: customers}}}}\n\
         routes: [{{match: {{path: /ws, method: GET}}, authenticate: required, proxy: web}}]\n",
        customers.address,
        websocket().await,
    ))
    .await;
    let logged_in = gateway.send("POST", "/session", &[("content-type", "application/json")], GOOD).await;
    let cookie = logged_in.header("set-cookie").split(';').next().unwrap().to_owned();
    let (own, cookie) = (format!("http://{}", gateway.address), ("cookie", cookie.as_str()));
    assert_eq!(open(&gateway, &[cookie, ("origin", &own)]).await, Ok(()));
    assert_eq!(open(&gateway, &[cookie]).await, Ok(()), "no browser");
    for origin in ["https://evil.example", "null"] {
        assert_eq!(open(&gateway, &[cookie, ("origin", origin)]).await, Err(StatusCode::FORBIDDEN), "{origin}");
    }
    let cross_site = [cookie, ("origin", own.as_str()), ("sec-fetch-site", "cross-site")];
    assert_eq!(open(&gateway, &cross_site).await, Err(StatusCode::FORBIDDEN));
    assert_eq!(open(&gateway, &[("origin", &own)]).await, Err(StatusCode::UNAUTHORIZED), "nobody at all");
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_outlives_its_routes_deadline() {
    let upstream = serve(|_| async {
        let frames = futures_util::stream::unfold(0, |sent| async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let event = Frame::data(Bytes::from(format!("data: {sent}\n\n")));
            (sent < 8).then_some((Ok::<_, Infallible>(event), sent + 1))
        });
        let mut response = Response::new(Body::new(StreamBody::new(Box::pin(frames))));
        response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
        response
    })
    .await;
    let gateway = Running::start(&format!(
        "upstreams: {{web: {{endpoints: ['{upstream}']}}}}\n\
         routes:\n- match: {{path: /events}}\n  timeout: 1s\n  proxy: {{upstream: web, idle_timeout: 60s}}\n"
    ))
    .await;
    let answer = gateway.get("/events").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with("data: 7\n\n"), "{}", answer.body);
    gateway.stop().await;
}

#[tokio::test]
async fn who_opens_a_stream_is_told_by_the_gateway_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let key = gateway::keys::new(&file, "operators/1", &["events:read:*/*".to_owned()], None).unwrap();
    let gateway = Running::start(&format!(
        "authentication: {{api_keys: {{file: '{}'}}}}\n\
         upstreams: {{web: {{endpoints: ['{}']}}}}\n\
         routes: [{{match: {{path: '/events/{{rest=**}}'}}, authenticate: required, proxy: web}}]\n",
        file.display(),
        echo().await,
    ))
    .await;
    for path in ["/events", "/events/DB/UPDATE?wait=5s"] {
        let headers = [("x-api-key", key.as_str()), ("turnpike-principal", "forged"), ("last-event-id", "7")];
        let answer = gateway.send("GET", path, &headers, "").await;
        let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((&told["path"], &told["headers"]["last-event-id"]), (&path.into(), &"7".into()));
        let token = told["headers"]["turnpike-principal"].as_str().unwrap();
        assert!(token.split('.').count() == 3, "a signed token, not {token}");
    }
    gateway.stop().await;
}
