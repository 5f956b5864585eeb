//! HTTP/2 by the frame, for clients that mean no good.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::running::Running;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field of a header block, as a literal that is remembered nowhere (RFC 7541, section 6.2.2); or that is kept in the
/// dynamic table.
pub fn field(name: &str, value: &str, kept: bool) -> Vec<u8> {
    let text = |text: &str| {
        // A length of seven bits, continued where that isn't enough.
        let mut out = Vec::new();
        let mut left = text.len();
        if left < 127 {
            out.push(u8::try_from(left).unwrap());
        } else {
            out.push(127);
            left -= 127;
            while left >= 128 {
                out.push(u8::try_from(left % 128).unwrap() | 128);
                left /= 128;
            }
            out.push(u8::try_from(left).unwrap());
        }
        out.extend_from_slice(text.as_bytes());
        out
    };
    [vec![if kept { 0x40 } else { 0 }], text(name), text(value)].concat()
}

/// The pseudo header of a request: `:method`, `:scheme`, `:path` and `:authority`.
pub fn asking(method: &str, path: &str) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.test")];
    fields.iter().flat_map(|(name, value)| field(name, value, false)).collect()
}

/// A whole GET.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &asking("GET", path))
}

/// How a connection ended.
#[derive(Debug, Default)]
pub struct End {
    /// The code and the reason that it was told.
    pub goaway: Option<(u32, String)>,
    /// Frames that came, by kind.
    pub frames: [usize; 10],
}

/// The sending half of a connection, and the reading one.
pub struct Raw {
    pub writing: OwnedWriteHalf,
    pub reading: OwnedReadHalf,
}

impl Raw {
    /// A connection on which nothing has been said.
    pub async fn dial(gateway: &Running) -> Self {
        let (reading, writing) = TcpStream::connect(gateway.address).await.unwrap().into_split();
        Self { writing, reading }
    }

    /// A connection that is ready for requests, with these settings.
    pub async fn open(gateway: &Running, settings: &[u8]) -> Self {
        let mut raw = Self::dial(gateway).await;
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, settings), &frame(SETTINGS, ACK, 0, &[])].concat();
        raw.writing.write_all(&hello).await.unwrap();
        raw
    }

    pub async fn send(&mut self, frames: &[u8]) {
        self.writing.write_all(frames).await.unwrap();
    }

    /// Sends without end what `frames` makes (it is told how often it was asked), until the gateway ends the connection.
    pub async fn flood(self, mut frames: impl FnMut(u32) -> Vec<u8>) -> End {
        let Self { mut writing, reading } = self;
        let flooding = async {
            let mut round = 0;
            while writing.write_all(&frames(round)).await.is_ok() {
                round += 1;
                tokio::task::yield_now().await;
            }
            // It has broken; what was said last is still to be read.
            std::future::pending::<()>().await;
        };
        let reading = Raw::read_to_end(reading, Duration::from_secs(60));
        tokio::select! {
            end = reading => end,
            () = flooding => unreachable!("it never ends"),
        }
    }

    /// Sends one thing after another, with pauses, until the gateway ends the connection.
    pub async fn flood_slowly(self, pause: Duration, frames: impl Fn() -> Vec<u8>) -> End {
        let Self { mut writing, reading } = self;
        let dripping = async {
            while writing.write_all(&frames()).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            end = Raw::read_to_end(reading, Duration::from_secs(30)) => end,
            () = dripping => unreachable!("it never ends"),
        }
    }

    /// Says nothing more, and reads until the gateway ends the connection.
    pub async fn ended(self, within: Duration) -> End {
        let end = Self::read_to_end(self.reading, within).await;
        drop(self.writing);
        end
    }

    async fn read_to_end(mut reading: OwnedReadHalf, within: Duration) -> End {
        let mut end = End::default();
        let all = async {
            let mut head = [0; 9];
            while reading.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                if reading.read_exact(&mut payload).await.is_err() {
                    break;
                }
                if let Some(count) = end.frames.get_mut(usize::from(head[3])) {
                    *count += 1;
                }
                if head[3] == GOAWAY {
                    let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
                    end.goaway = Some((code, String::from_utf8_lossy(&payload[8..]).into_owned()));
                }
            }
        };
        assert!(timeout(within, all).await.is_ok(), "still open after {within:?}: {end:?}");
        end
    }
}
