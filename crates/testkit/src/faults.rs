//! A TCP proxy that does to connections what networks do: cuts, delays, throttles, swallows, corrupts, refuses.
//!
//! What it does holds at once, for connections that are open and for those to come. Which bytes are hit follows from a
//! seed. It knows nothing of what the bytes mean.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use crate::{Random, eventually, free_port};

/// Read at once, at most.
const CHUNK: usize = 16 * 1024;
/// Chunks that are on their way, at most; more stay with who sends them.
const QUEUE: usize = 256;

/// What becomes of what is sent in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// It arrives so much later.
    Delay(Duration),
    /// So many bytes a second pass, on each connection.
    Throttle(u32),
    /// It vanishes, an end of the connection too, as if the other side's machine was gone. A connection that has lost
    /// bytes goes on losing them.
    Swallow,
    /// Of each so many bytes one has a bit flipped.
    Corrupt { every: u64 },
    /// When so many more bytes of a connection have passed, it is reset both ways.
    CutAfter(u64),
}

/// Which of the two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who connects.
    Out,
    /// From the service.
    Back,
}

/// The proxy of one service. Dropped, it is gone with its connections.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    target: watch::Sender<SocketAddr>,
    seed: u64,
    faults: [watch::Sender<Fault>; 2],
    /// Whether nobody listens.
    refuses: watch::Sender<bool>,
    /// One more with each cut of everything.
    cuts: watch::Sender<u64>,
    /// Connections there were.
    accepted: AtomicU64,
    listening: AtomicUsize,
}

impl FaultProxy {
    /// A proxy on a port of its own that passes everything on.
    pub async fn start(target: SocketAddr, seed: u64) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let shared = Arc::new(Shared {
            target: watch::Sender::new(target),
            seed,
            faults: Default::default(),
            refuses: Default::default(),
            cuts: Default::default(),
            accepted: AtomicU64::new(0),
            listening: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(address, Arc::clone(&shared)));
        let proxy = Self { address, shared, accepting };
        proxy.listening(true).await;
        proxy
    }

    /// Where to connect instead of to the service.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections to come go to another service. Those that are open stay where they are.
    pub fn aim(&self, target: SocketAddr) {
        self.shared.target.send_replace(target);
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Relaxed)
    }

    /// What happens from now on to what is sent in one direction.
    pub fn set(&self, way: Way, fault: Fault) {
        self.shared.faults[way as usize].send_replace(fault);
    }

    /// The same in both.
    pub fn set_both(&self, fault: Fault) {
        self.set(Way::Out, fault);
        self.set(Way::Back, fault);
    }

    /// Resets every connection that is open now.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Whether connections are refused. Those that are open stay. Returns when it is so.
    pub async fn refuse(&self, refuses: bool) {
        self.shared.refuses.send_replace(refuses);
        self.listening(!refuses).await;
    }

    async fn listening(&self, listens: bool) {
        eventually("the proxy listens, or not, as it was told", Duration::from_secs(30), || async {
            (self.shared.listening.load(Relaxed) == usize::from(listens)).then_some(())
        })
        .await;
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(address: SocketAddr, shared: Arc<Shared>) {
    // They end with this.
    let mut carried = JoinSet::new();
    let mut refuses = shared.refuses.subscribe();
    loop {
        if *refuses.borrow_and_update() {
            shared.listening.store(0, Relaxed);
            if refuses.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Ok(listener) = TcpListener::bind(address).await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        shared.listening.store(1, Relaxed);
        loop {
            tokio::select! {
                accepted = listener.accept() => if let Ok((client, _)) = accepted {
                    let number = shared.accepted.fetch_add(1, Relaxed);
                    carried.spawn(carry(client, Arc::clone(&shared), number));
                    while carried.try_join_next().is_some() {}
                },
                _ = refuses.changed() => break,
            }
        }
    }
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>, number: u64) {
    let mut cuts = shared.cuts.subscribe();
    let target = *shared.target.borrow();
    let Ok(mut service) = TcpStream::connect(target).await else {
        _ = client.set_zero_linger();
        return;
    };
    // What is sent in pieces arrives in pieces.
    _ = (client.set_nodelay(true), service.set_nodelay(true));
    let is_cut = {
        let ((from_client, to_client), (from_service, to_service)) = (client.split(), service.split());
        let out = Pump::new(&shared, Way::Out, number).run(from_client, to_service);
        let back = Pump::new(&shared, Way::Back, number).run(from_service, to_client);
        tokio::select! {
            passed = async { tokio::try_join!(out, back) } => passed.is_err(),
            _ = cuts.changed() => true,
        }
    };
    if is_cut {
        _ = (client.set_zero_linger(), service.set_zero_linger());
    }
}

/// The connection is to be reset.
struct Cut;

/// One direction of one connection.
struct Pump {
    faults: watch::Receiver<Fault>,
    random: Random,
    /// Bytes since the fault was set.
    passed: u64,
    has_lost: bool,
}

/// What is on its way, and when it arrives.
struct Chunk {
    bytes: Vec<u8>,
    due: Instant,
    /// The connection is reset behind it.
    is_last: bool,
}

impl Pump {
    fn new(shared: &Shared, way: Way, number: u64) -> Self {
        let random = Random::new(shared.seed ^ (number << 1) ^ way as u64);
        Self { faults: shared.faults[way as usize].subscribe(), random, passed: 0, has_lost: false }
    }

    async fn run<R, W>(mut self, mut from: R, mut to: W) -> Result<(), Cut>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (queue, mut queued) = mpsc::channel(QUEUE);
        let faults = self.faults.clone();
        let reading = async move {
            loop {
                let mut bytes = vec![0; CHUNK];
                let read = from.read(&mut bytes).await.map_err(|_| Cut)?;
                bytes.truncate(read);
                let Some(chunk) = self.pass(bytes) else {
                    if read == 0 {
                        // Who is gone doesn't say so.
                        std::future::pending::<()>().await;
                    }
                    continue;
                };
                let is_end = read == 0 || chunk.is_last;
                if queue.send(chunk).await.is_err() || is_end {
                    return Ok(());
                }
            }
        };
        let writing = async move {
            while let Some(Chunk { bytes, due, is_last }) = queued.recv().await {
                sleep_until(due).await;
                if bytes.is_empty() && !is_last {
                    return to.shutdown().await.map_err(|_| Cut);
                }
                let fault = *faults.borrow();
                let piece = if let Fault::Throttle(rate) = fault { (rate as usize / 20).max(1) } else { CHUNK };
                for piece in bytes.chunks(piece) {
                    if let Fault::Throttle(rate) = fault {
                        sleep(Duration::from_secs_f64(piece.len() as f64 / f64::from(rate))).await;
                    }
                    to.write_all(piece).await.map_err(|_| Cut)?;
                }
                if is_last {
                    return Err(Cut);
                }
            }
            Ok(())
        };
        tokio::try_join!(reading, writing).map(|_| ())
    }

    /// What becomes of what was read; nothing read is the end. None: it is lost.
    fn pass(&mut self, mut bytes: Vec<u8>) -> Option<Chunk> {
        if self.faults.has_changed().unwrap_or(false) {
            self.passed = 0;
        }
        let fault = *self.faults.borrow_and_update();
        if self.has_lost || fault == Fault::Swallow {
            self.has_lost = true;
            return None;
        }
        let (mut due, mut is_last) = (Instant::now(), false);
        match fault {
            Fault::Delay(delay) => due += delay,
            Fault::Corrupt { every } => self.corrupt(&mut bytes, every.max(1)),
            Fault::CutAfter(left) => {
                let left = usize::try_from(left.saturating_sub(self.passed)).unwrap_or(usize::MAX);
                is_last = bytes.len() >= left;
                bytes.truncate(left);
            }
            Fault::None | Fault::Throttle(_) | Fault::Swallow => {}
        }
        self.passed += bytes.len() as u64;
        Some(Chunk { bytes, due, is_last })
    }

    fn corrupt(&mut self, bytes: &mut [u8], every: u64) {
        for byte in bytes {
            if self.random.below(every) == 0 {
                *byte ^= 1 << self.random.below(8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A service that says everything back, and a connection to it through the proxy.
    async fn echo() -> (FaultProxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let proxy = FaultProxy::start(target, 7).await;
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, stream)
    }

    async fn said_back(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await?;
        Ok(back)
    }

    #[tokio::test]
    async fn without_a_fault_everything_passes_an_end_too() {
        let (_proxy, mut stream) = echo().await;
        let text = vec![b'x'; 300_000];
        let (mut from, mut to) = stream.split();
        let mut back = Vec::new();
        let sent = async {
            to.write_all(&text).await.unwrap();
            to.shutdown().await.unwrap();
        };
        tokio::join!(sent, async { from.read_to_end(&mut back).await.unwrap() });
        assert!(back == text);
    }

    #[tokio::test]
    async fn it_cuts_at_a_byte_and_at_once() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(said_back(&mut stream, b"hello").await.unwrap(), b"hello");
        proxy.set(Way::Back, Fault::CutAfter(3));
        stream.write_all(b"hello").await.unwrap();
        let mut back = Vec::new();
        let end = stream.read_to_end(&mut back).await;
        assert!(end.is_err() && back.len() <= 3, "{end:?} after {back:?}");
        proxy.set(Way::Back, Fault::None);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(said_back(&mut stream, b"hello").await.unwrap(), b"hello");
        proxy.cut();
        assert!(stream.read(&mut [0]).await.is_err(), "it is reset, not ended");
        assert_eq!(proxy.connections(), 2);
    }

    #[tokio::test]
    async fn it_swallows_both_ways_and_for_good() {
        let (proxy, mut stream) = echo().await;
        proxy.set(Way::Out, Fault::Swallow);
        let bit = Duration::from_millis(200);
        assert!(timeout(bit, said_back(&mut stream, b"hello")).await.is_err());
        proxy.set(Way::Out, Fault::None);
        assert!(timeout(bit, said_back(&mut stream, b"hello")).await.is_err());
        let mut other = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(said_back(&mut other, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn it_delays_and_throttles() {
        let (proxy, mut stream) = echo().await;
        proxy.set_both(Fault::Delay(Duration::from_millis(100)));
        let started = Instant::now();
        assert_eq!(said_back(&mut stream, b"hello").await.unwrap(), b"hello");
        assert!(started.elapsed() >= Duration::from_millis(200));
        proxy.set(Way::Out, Fault::None);
        proxy.set(Way::Back, Fault::Throttle(10_000));
        let started = Instant::now();
        said_back(&mut stream, &[0; 5_000]).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(500));
    }

    #[tokio::test]
    async fn it_corrupts_the_same_bytes_for_the_same_seed() {
        let mut seen = Vec::new();
        for _ in 0..2 {
            let (proxy, mut stream) = echo().await;
            proxy.set(Way::Back, Fault::Corrupt { every: 100 });
            seen.push(said_back(&mut stream, &[0; 10_000]).await.unwrap());
        }
        let hit = seen[0].iter().filter(|byte| **byte != 0).count();
        assert!((50..200).contains(&hit), "{hit} of 10,000");
        assert_eq!(seen[0], seen[1]);
    }

    #[tokio::test]
    async fn it_is_aimed_at_another_service() {
        let ((proxy, mut stream), (other, _)) = (echo().await, echo().await);
        proxy.aim(SocketAddr::from(([127, 0, 0, 1], free_port())));
        assert_eq!(said_back(&mut stream, b"hello").await.unwrap(), b"hello", "what is open stays");
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(said_back(&mut stream, b"hello").await.is_err(), "nobody is there");
        proxy.aim(other.address());
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(said_back(&mut stream, b"hello").await.unwrap(), b"hello");
    }

    #[tokio::test]
    async fn it_refuses_and_listens_again() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(said_back(&mut stream, b"hello").await.unwrap(), b"hello");
        proxy.refuse(true).await;
        assert!(TcpStream::connect(proxy.address()).await.is_err());
        assert_eq!(said_back(&mut stream, b"hello").await.unwrap(), b"hello", "what is open stays");
        proxy.refuse(false).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(said_back(&mut stream, b"hello").await.unwrap(), b"hello");
    }
}
