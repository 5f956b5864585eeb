//! Clients by the hundred that take their time in every phase of a request: each is dropped, and nobody else notices.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::running::{Running, passing_on, upstream};

const CLIENTS: usize = 500;
/// A client has ten seconds; a machine that is busy with something else needs longer to get to five hundred of them.
const DROPPED_WITHIN: Duration = Duration::from_secs(60);

/// A gateway before an upstream that reads what it is sent and answers with as much as the path says, in KiB.
async fn gateway() -> Running {
    lifecycle::raise_open_files().unwrap();
    let much = Bytes::from(vec![b'x'; 8 << 20]);
    let upstream = upstream(move |request| {
        let kib: usize = request.uri().path()[1..].parse().unwrap_or_default();
        let answer = much.slice(..kib << 10);
        async {
            _ = request.into_body().collect().await;
            Response::new(Full::new(answer))
        }
    })
    .await;
    Running::start(&passing_on(upstream)).await
}

/// What a client does once it is connected, until it is dropped.
#[derive(Clone, Copy)]
enum Slow {
    Header,
    Body,
    Read,
}

impl Slow {
    async fn until_dropped(self, address: SocketAddr) -> Duration {
        let mut socket = connect(address).await;
        let mut start = Instant::now();
        match self {
            Self::Header => {
                socket.write_all(b"GET /1 HTTP/1.1\r\nHost: gateway.test\r\nX-Slow: ").await.unwrap();
                drip(socket).await;
            }
            Self::Body => {
                let head = b"POST /1 HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1000000\r\n\r\n";
                socket.write_all(head).await.unwrap();
                drip(socket).await;
            }
            Self::Read => {
                socket.write_all(b"GET /8192 HTTP/1.1\r\nHost: gateway.test\r\n\r\n").await.unwrap();
                socket.readable().await.unwrap();
                start = Instant::now();
                sip(socket).await;
            }
        }
        start.elapsed()
    }
}

/// A client whose kernel takes in little of its own accord.
async fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address).await.unwrap()
}

/// Sends a byte a second until the gateway closes.
async fn drip(mut socket: TcpStream) {
    let mut answer = [0; 4096];
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            read = socket.read(&mut answer) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            _ = second.tick() => if socket.write_all(b"x").await.is_err() {
                return;
            },
        }
    }
}

/// Reads a hundred bytes a second until the gateway resets the connection.
async fn sip(mut socket: TcpStream) {
    let mut taken = [0; 100];
    let mut second = tokio::time::interval(Duration::from_secs(1));
    // Whoever reads slowly has answers left to read when it is dropped: only the reset tells.
    while socket.take_error().unwrap().is_none() {
        second.tick().await;
        if !matches!(socket.read(&mut taken).await, Ok(read) if read > 0) {
            return;
        }
    }
}

/// All of them at once, and somebody who means well.
async fn drops_them(slow: Slow) {
    let gateway = gateway().await;
    let address = gateway.address;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move { slow.until_dropped(address).await });
    }
    let honest = async {
        let mut answers = 0;
        loop {
            let answer = tokio::time::timeout(DROPPED_WITHIN, gateway.get("/1")).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 1024));
            answers += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if clients.is_empty() {
                return answers;
            }
            while let Some(took) = clients.try_join_next() {
                let took = took.unwrap();
                assert!(took <= DROPPED_WITHIN, "{took:?}");
            }
        }
    };
    let answers = tokio::time::timeout(DROPPED_WITHIN * 2, honest).await.unwrap();
    assert!(answers > 20, "{answers}");
    gateway.stop().await;
}

#[tokio::test]
async fn five_hundred_slow_headers_are_dropped() {
    drops_them(Slow::Header).await;
}

#[tokio::test]
async fn five_hundred_slow_bodies_are_dropped() {
    drops_them(Slow::Body).await;
}

#[tokio::test]
async fn five_hundred_slow_readers_are_dropped() {
    drops_them(Slow::Read).await;
}

#[tokio::test]
async fn a_client_that_reads_steadily_is_not_dropped_however_large_its_answer() {
    const A_SECOND: usize = 16 << 10;
    let gateway = gateway().await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.write_all(b"GET /8192 HTTP/1.1\r\nHost: gateway.test\r\n\r\n").await.unwrap();
    let mut taken = vec![0; A_SECOND];
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..25 {
        second.tick().await;
        socket.read_exact(&mut taken).await.unwrap();
        assert!(socket.take_error().unwrap().is_none(), "it is cut");
    }
    let mut rest = Vec::new();
    let so_far = 25 * A_SECOND;
    while so_far + rest.len() < 8 << 20 {
        assert!(socket.read_buf(&mut rest).await.unwrap() > 0, "it ended early");
    }
    gateway.stop().await;
}
