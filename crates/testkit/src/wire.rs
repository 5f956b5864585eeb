//! A WebSocket byte by byte: a client that sends what no library would, or takes nothing of what it is sent.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

pub const FIN: u8 = 0x80;
/// What a compressed message is marked by, where both sides have agreed on that.
pub const RSV1: u8 = 0x40;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Generous: only a fault lets it wait so long.
const SOON: Duration = Duration::from_secs(30);

/// A connection that was upgraded, on which bytes are written as they are.
pub struct Wire(TcpStream);

impl Wire {
    /// Upgraded, and welcomed. `headers`: lines of the request, each with its end.
    pub async fn open(address: SocketAddr, headers: &str) -> Self {
        Self::on(TcpStream::connect(address).await.expect("a broker"), headers).await
    }

    /// The same, of a client that makes no room for what it doesn't read: about so many bytes.
    pub async fn narrow(address: SocketAddr, headers: &str, bytes: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("a size that it can have");
        Self::on(socket.connect(address).await.expect("a broker"), headers).await
    }

    async fn on(mut stream: TcpStream, headers: &str) -> Self {
        stream.set_nodelay(true).expect("a connection");
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: broker\r\n{headers}connection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: turnpike.v1\r\n\
             sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(SOON, stream.read_u8()).await.expect("an answer").expect("a connection"));
        }
        let head = String::from_utf8(head).expect("HTTP").to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(!head.contains("sec-websocket-extensions"), "nothing is compressed: {head}");
        let mut wire = Self(stream);
        wire.say(&json!({ "hello": { "v": 1 } })).await;
        let welcome = wire.next().await.expect("a welcome");
        assert!(welcome["welcome"].is_object(), "{welcome}");
        wire
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("a connection");
    }

    /// Sends a text frame, as it should be.
    pub async fn say(&mut self, frame: &Value) {
        self.write(&self::frame(FIN | TEXT, frame.to_string().as_bytes())).await;
    }

    /// The next frame: its first byte and what it carries. A server's are not masked.
    ///
    /// # Errors
    /// If the connection is over.
    pub async fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let reading = async {
            let (first, length) = (self.0.read_u8().await?, self.0.read_u8().await?);
            let length = match length {
                126 => usize::from(self.0.read_u16().await?),
                127 => usize::try_from(self.0.read_u64().await?).expect("a length"),
                length => usize::from(length),
            };
            let mut bytes = vec![0; length];
            self.0.read_exact(&mut bytes).await?;
            Ok((first, bytes))
        };
        timeout(SOON, reading).await.expect("a frame")
    }

    /// The next text; answers pings.
    ///
    /// # Errors
    /// If the connection is over.
    pub async fn next(&mut self) -> io::Result<Value> {
        loop {
            match self.read().await? {
                (first, text) if first == FIN | TEXT => return Ok(serde_json::from_slice(&text)?),
                (first, bytes) if first == FIN | PING => self.write(&frame(FIN | PONG, &bytes)).await,
                (first, _) if first == FIN | CLOSE => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
    }

    /// The code that it is closed with.
    pub async fn closed(&mut self) -> u16 {
        loop {
            let (first, bytes) = self.read().await.expect("that it says why");
            if first == FIN | CLOSE {
                return u16::from_be_bytes([bytes[0], bytes[1]]);
            }
        }
    }
}

/// A masked frame, as a client has to send it.
pub fn frame(first: u8, bytes: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = head(first, 0x80, bytes.len() as u64);
    frame.extend(mask);
    frame.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame's head that announces so many bytes; `masked`: 0x80, or 0.
pub fn head(first: u8, masked: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(masked | length as u8),
        126..=0xffff => {
            head.push(masked | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(masked | 127);
            head.extend(length.to_be_bytes());
        }
    }
    head
}
