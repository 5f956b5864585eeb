//! A crowd of sockets, each as little as can speak the protocol: what a client costs is in every contestant's figures.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use principal::{METADATA, Principal, RootSecret, Signer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::timeout,
};

use super::server::{ISSUER, TELLS, WAITS};

/// Sockets that open at once.
const OPENING: usize = 64;
/// How long a client that was cut off waits, at most, before it comes back: a random part of it (`goaway` says the same).
const COMES_BACK: Duration = Duration::from_secs(8);
/// A frame that isn't small.
const LONG: u8 = 126;
const LONGER: u8 = 127;

/// Where sockets are opened, and events published.
pub(super) struct Door {
    ports: Vec<u16>,
    signer: Signer,
}

impl Door {
    pub(super) fn new(ports: Vec<u16>, secret: &RootSecret) -> Self {
        Self { ports, signer: Signer::new(ISSUER, secret) }
    }

    fn token(&self) -> String {
        let scopes = ["events:read:*/*", "events:write:*/*"].map(str::to_owned).to_vec();
        self.signer.sign(&Principal { subject: "clients/bench".to_owned(), scopes, ..Principal::default() })
    }

    pub(super) async fn publish(&self, port: u16, bytes: usize) -> anyhow::Result<()> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let data = format!("\"{}\"", "x".repeat(bytes));
        let head = format!(
            "POST /events/BENCH/TOLD HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n{METADATA}: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.token(),
            data.len(),
        );
        socket.write_all(format!("{head}{data}").as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "publishing: {answer}");
        Ok(())
    }
}

/// Sockets that wait to be told something.
pub(super) struct Crowd {
    size: usize,
    counts: Arc<Counts>,
    pub(super) most_refused: Arc<AtomicU64>,
    pub(super) gaps: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    ready: AtomicUsize,
    told: AtomicUsize,
    /// Bytes of the last text frame that told an event.
    frame: AtomicUsize,
    moved: Notify,
}

/// One connection, and what came of it beyond what was read.
struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Crowd {
    /// All of them on the first port, each with one subscription from now on.
    pub(super) async fn gather(size: usize, door: Arc<Door>, patience: Duration) -> anyhow::Result<Self> {
        let crowd = Self::new(size);
        let opening = Arc::new(Semaphore::new(OPENING));
        let mut crowd = crowd;
        for _ in 0..size {
            let (door, opening, counts) = (door.clone(), opening.clone(), crowd.counts.clone());
            let (most_refused, gaps) = (crowd.most_refused.clone(), crowd.gaps.clone());
            crowd._tasks.spawn(async move {
                let mut cursor: Option<String> = None;
                let (mut node, mut refused) = (0, 0);
                loop {
                    let place = opening.acquire().await;
                    let opened = Socket::open(&door, door.ports[node], cursor.as_deref()).await;
                    drop(place);
                    match opened {
                        Ok((mut socket, at)) => {
                            if cursor.replace(at).is_none() {
                                counts.ready.fetch_add(1, Relaxed);
                                counts.moved.notify_one();
                            }
                            refused = 0;
                            while let Ok(frame) = socket.frame().await {
                                note(&frame, &mut cursor, &counts, &gaps);
                            }
                        }
                        Err(error) => {
                            // A node that is dead refuses nobody: it doesn't answer.
                            if error.to_string().contains("HTTP/1.1") {
                                refused += 1;
                                most_refused.fetch_max(refused, Relaxed);
                            }
                        }
                    }
                    node = (node + 1) % door.ports.len();
                    let wait = COMES_BACK.mul_f64(rand::random_range(0.0..1.0));
                    tokio::time::sleep(wait).await;
                }
            });
        }
        crowd.all(|counts| &counts.ready, patience).await.context("not everybody came in")?;
        Ok(crowd)
    }

    /// The same on a loop that only writes.
    pub(super) async fn gather_bare(size: usize, port: u16, patience: Duration) -> anyhow::Result<Self> {
        let mut crowd = Self::new(size);
        for _ in 0..size {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            stream.write_u8(WAITS).await?;
            let counts = crowd.counts.clone();
            counts.ready.fetch_add(1, Relaxed);
            crowd._tasks.spawn(async move {
                let mut socket = Socket { stream, buffer: Vec::new() };
                while socket.frame().await.is_ok() {
                    counts.told.fetch_add(1, Relaxed);
                    counts.moved.notify_one();
                }
            });
        }
        crowd.all(|counts| &counts.ready, patience).await?;
        Ok(crowd)
    }

    fn new(size: usize) -> Self {
        Self {
            size,
            counts: Arc::default(),
            most_refused: Arc::default(),
            gaps: Arc::default(),
            _tasks: JoinSet::new(),
        }
    }

    /// Waits until everybody was told one event more; the bytes of the text that told it.
    pub(super) async fn all_told(&self, patience: Duration) -> anyhow::Result<usize> {
        self.all(|counts| &counts.told, patience).await.context("not everybody was told")?;
        self.counts.told.store(0, Relaxed);
        Ok(self.counts.frame.load(Relaxed))
    }

    async fn all(&self, count: impl Fn(&Counts) -> &AtomicUsize, patience: Duration) -> anyhow::Result<()> {
        let enough = async {
            while count(&self.counts).load(Relaxed) < self.size {
                self.counts.moved.notified().await;
            }
        };
        let reached = timeout(patience, enough).await;
        reached.with_context(|| format!("{} of {}", count(&self.counts).load(Relaxed), self.size))
    }
}

/// Tells the bare loop to write.
pub(super) async fn trigger(port: u16) -> anyhow::Result<()> {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    socket.write_u8(TELLS).await?;
    Ok(())
}

fn note(frame: &[u8], cursor: &mut Option<String>, counts: &Counts, gaps: &AtomicU64) {
    let Ok(text) = std::str::from_utf8(frame) else { return };
    if let Some(at) = member(text, "\"cursor\":\"") {
        *cursor = Some(at.to_owned());
    }
    if text.starts_with("{\"gap\"") {
        gaps.fetch_add(1, Relaxed);
    }
    if text.starts_with("{\"ev\"") {
        counts.frame.store(text.len(), Relaxed);
        counts.told.fetch_add(1, Relaxed);
        counts.moved.notify_one();
    }
}

/// The text behind a name.
fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(name)?;
    behind.split_once('"').map(|(value, _)| value)
}

impl Socket {
    /// Opens a socket and subscribes; where it stands in the log then.
    async fn open(door: &Door, port: u16, cursor: Option<&str>) -> anyhow::Result<(Self, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: turnpike.v1\r\n{METADATA}: {}\r\n\r\n",
            door.token(),
        );
        stream.write_all(head.as_bytes()).await?;
        let mut socket = Self { stream, buffer: Vec::new() };
        let head = socket.head().await?;
        if !head.starts_with("HTTP/1.1 101") {
            bail!("{}", head.lines().next().unwrap_or_default());
        }
        socket.say(r#"{"hello":{"v":1}}"#).await?;
        let cursor = cursor.unwrap_or("latest");
        socket.say(&format!(r#"{{"id":1,"sub":{{"name":"s","filter":"BENCH/*","cursor":"{cursor}"}}}}"#)).await?;
        loop {
            let frame = socket.frame().await?;
            let text = std::str::from_utf8(&frame)?;
            if text.contains("\"error\"") {
                bail!("refused: {text}");
            }
            if text.contains("\"ok\"") {
                let at = member(text, "\"cursor\":\"").context("no cursor")?.to_owned();
                return Ok((socket, at));
            }
        }
    }

    async fn head(&mut self) -> anyhow::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Ok(String::from_utf8(head)?);
            }
            self.more().await?;
        }
    }

    /// The next text; pings are answered.
    async fn frame(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            while self.buffer.len() < 2 {
                self.more().await?;
            }
            let (kind, length) = (self.buffer[0] & 0x0f, self.buffer[1]);
            let head = match length {
                LONG => 4,
                LONGER => 10,
                _ => 2,
            };
            while self.buffer.len() < head {
                self.more().await?;
            }
            let length = match length {
                LONG | LONGER => self.buffer[2..head].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                small => usize::from(small),
            };
            while self.buffer.len() < head + length {
                self.more().await?;
            }
            let payload = self.buffer[head..head + length].to_vec();
            self.buffer.drain(..head + length);
            // Nothing is kept for an idle socket.
            if self.buffer.is_empty() {
                self.buffer = Vec::new();
            }
            match kind {
                1 => return Ok(payload),
                8 => bail!("closed"),
                9 => self.write(0x8a, &payload).await?,
                _ => {}
            }
        }
    }

    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.write(0x81, text.as_bytes()).await
    }

    /// A frame as clients send it: masked, by a key of zeros (RFC 6455, section 5.3), which leaves it as it is.
    async fn write(&mut self, kind: u8, payload: &[u8]) -> anyhow::Result<()> {
        let mut frame = vec![kind];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | LONG);
                frame.extend(u16::try_from(long)?.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        self.stream.write_all(&frame).await?;
        Ok(())
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        self.buffer.reserve(1024);
        ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the connection ended");
        Ok(())
    }
}
