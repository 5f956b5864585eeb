//! The deadline bounds whatever takes long.

use std::time::{Duration, Instant};

use http::HeaderMap;
use tokio::net::{TcpSocket, TcpStream};
use upstream::{ErrorKind, Options, Protocol, Upstream};

use crate::service::{Service, UNSAFE, client, config, get, grpc};

const SOON: Duration = Duration::from_millis(150);
/// Far more than `SOON`, for a machine that is busy.
const LATE: Duration = Duration::from_secs(1);

/// A listener whose queue is full: the kernel drops every further attempt to connect.
struct BlackHole {
    listener: tokio::net::TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    async fn open() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(listener.local_addr().unwrap())).await
        {
            queued.push(stream.unwrap());
        }
        Self { listener, _queued: queued }
    }

    fn address(&self) -> std::net::SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

fn soon() -> Options {
    Options::within(SOON)
}

#[tokio::test]
async fn it_holds_while_connecting() {
    let hole = BlackHole::open().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let started = Instant::now();
        let error = client(protocol, &[hole.address()]).send(get("/"), soon()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Deadline);
        assert!(started.elapsed() < LATE);
    }
}

#[tokio::test]
async fn without_one_connecting_still_ends() {
    let hole = BlackHole::open().await;
    let upstream =
        Upstream::new(upstream::Config { connect_timeout: SOON, ..config(Protocol::Http1, &[hole.address()]) })
            .unwrap();
    let error = upstream.client().send(get("/"), UNSAFE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn many_who_wait_for_one_connection_wait_only_once() {
    let hole = BlackHole::open().await;
    let config = upstream::Config {
        connect_timeout: SOON,
        retry: upstream::Retry { attempts: 0, ..Default::default() },
        ..config(Protocol::Grpc, &[hole.address()])
    };
    let client = Upstream::new(config).unwrap().client();
    let started = Instant::now();
    let errors = futures_util::future::join_all((0..20).map(|_| client.send(get("/"), UNSAFE))).await;
    assert!(errors.into_iter().all(|answer| answer.unwrap_err().kind == ErrorKind::Unreachable));
    assert!(started.elapsed() < LATE);
}

#[tokio::test]
async fn it_holds_while_waiting_for_the_answer() {
    let never = |_| std::future::pending();
    let (http1, http2) = (Service::http1(never).await, Service::http2(never).await);
    for (protocol, service) in [(Protocol::Http1, &http1), (Protocol::Http2, &http2)] {
        let started = Instant::now();
        let error = client(protocol, &[service.address]).send(get("/"), soon()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Deadline);
        assert!(started.elapsed() < LATE);
    }
}

#[tokio::test]
async fn a_call_past_it_is_a_status() {
    let service = Service::http2(|_| std::future::pending()).await;
    let client = client(Protocol::Grpc, &[service.address]);
    let status = client.unary("/a.B/C", HeaderMap::new(), Default::default(), soon()).await.unwrap_err();
    assert_eq!((status.code, status.local), (4, Some(ErrorKind::Deadline)));
}

#[tokio::test]
async fn it_holds_within_the_answer_to_a_call() {
    let service = Service::http2(|_| async {
        let mut response = grpc(&[b"one"], &[]);
        let first = std::mem::take(response.body_mut());
        *response.body_mut() = crate::stream::then(first, std::future::pending());
        response
    })
    .await;
    let client = client(Protocol::Grpc, &[service.address]);
    let status = client.unary("/a.B/C", HeaderMap::new(), Default::default(), soon()).await.unwrap_err();
    assert_eq!((status.code, status.local), (4, Some(ErrorKind::Deadline)));
}

#[tokio::test]
async fn it_holds_between_the_messages_of_a_stream() {
    let service = Service::http2(|_| async {
        let mut response = grpc(&[b"one"], &[]);
        let (first, rest) = (std::mem::take(response.body_mut()), std::future::pending::<()>());
        *response.body_mut() = crate::stream::then(first, rest);
        response
    })
    .await;
    let client = client(Protocol::Grpc, &[service.address]);
    let mut stream = client.streaming("/a.B/C", HeaderMap::new(), Default::default(), soon()).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "one");
    assert_eq!(stream.next().await.unwrap().unwrap_err().code, 4);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn the_service_is_told_what_remains() {
    let service = Service::http2(|request: http::Request<_>| async move {
        let timeout = request.headers()["grpc-timeout"].to_str().unwrap().to_owned();
        grpc(&[timeout.as_bytes()], &[("grpc-status", "0")])
    })
    .await;
    let client = client(Protocol::Grpc, &[service.address]);
    let told = async |metadata, options| {
        let reply = client.unary("/a.B/C", metadata, Default::default(), options).await.unwrap();
        let text = String::from_utf8(reply.message.to_vec()).unwrap();
        Duration::from_micros(text.strip_suffix('u').unwrap().parse().unwrap())
    };
    let remaining = told(HeaderMap::new(), Options::within(Duration::from_secs(2))).await;
    assert!(remaining <= Duration::from_secs(2) && remaining > Duration::from_secs(1), "{remaining:?}");
    let earlier = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), "1S".parse().unwrap())]);
    assert!(told(earlier, Options::within(Duration::from_secs(5))).await <= Duration::from_secs(1));
}
