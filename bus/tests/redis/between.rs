//! What others do between two commands of a bus: a proxy holds one back, until they have done it; or loses its answer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bus::{Bus, Claim, Mode, Queue};
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::Notify,
};

use super::{Manual, command, eventually, open};
use crate::conformance::{ack, claim, declare, publish, queue, seconds};

/// A way to a server.
#[derive(Clone)]
pub(super) struct Proxy {
    port: u16,
    /// What is held back: the next text like this, and whatever its connection says after it.
    text: Arc<Mutex<Option<&'static str>>>,
    /// The next command like this is done, and its connection cut before the answer.
    lost: Arc<Mutex<Option<&'static str>>>,
    pub(super) held: Arc<Notify>,
    pub(super) go_on: Arc<Notify>,
}

impl Proxy {
    pub(super) async fn to(server: &testkit::Redis) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy =
            Self { port, text: Arc::default(), lost: Arc::default(), held: Arc::default(), go_on: Arc::default() };
        let (accepting, server) = (proxy.clone(), server.port());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (answers, commands) = TcpStream::connect(("127.0.0.1", server)).await.unwrap().into_split();
                let (spoken, heard) = client.into_split();
                let deaf = Arc::<AtomicBool>::default();
                tokio::spawn(pass_back(answers, heard, deaf.clone()));
                tokio::spawn(accepting.clone().pass(spoken, commands, deaf));
            }
        });
        proxy
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn hold(&self, text: &'static str) {
        *self.text.lock() = Some(text);
    }

    pub(super) fn lose_the_answer_to(&self, text: &'static str) {
        *self.lost.lock() = Some(text);
    }

    async fn pass(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: Arc<AtomicBool>) -> std::io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            if find(&self.lost, &buffer[..read]).is_some() {
                deaf.store(true, Ordering::SeqCst);
            }
            let found = find(&self.text, &buffer[..read]);
            let (before, after) = buffer[..read].split_at(found.unwrap_or(read));
            to.write_all(before).await?;
            if found.is_some() {
                self.held.notify_one();
                self.go_on.notified().await;
                to.write_all(after).await?;
            }
        }
    }
}

/// Where the text is that is looked for; it is so once.
fn find(text: &Mutex<Option<&'static str>>, said: &[u8]) -> Option<usize> {
    let mut text = text.lock();
    let at = said.windows((*text)?.len()).position(|part| Some(part) == text.map(str::as_bytes))?;
    *text = None;
    Some(at)
}

async fn pass_back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, deaf: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).await?;
        // The server has done what it was told.
        if read == 0 || deaf.load(Ordering::SeqCst) {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

#[tokio::test]
async fn a_claim_misses_nothing_that_is_recorded_while_it_reads() {
    let server = testkit::redis().await;
    let proxy = Proxy::to(&server).await;
    let near = bus::redis::open(&server.url()).await.unwrap();
    let far = bus::redis::open(&proxy.url()).await.unwrap();
    declare(&near, "g", Mode::Parallel).await;
    publish(&near, &[("a", "k")]).await;
    ack(&far, "g", &claim(&far, "g", 10).await).await;
    // It asks for what comes after what it has reached and for that, one after the other.
    proxy.hold("XREVRANGE");
    let claiming = tokio::spawn({
        let far = far.clone();
        async move { claim(&far, "g", 10).await }
    });
    tokio::time::timeout(seconds(20), proxy.held.notified()).await.expect("it reads");
    for id in ["b", "c"] {
        publish(&near, &[(id, "k")]).await;
    }
    proxy.go_on.notify_one();
    let claimed = Mutex::new(claiming.await.unwrap());
    eventually("both are delivered", async || {
        let more = claim(&far, "g", 10).await;
        claimed.lock().extend(more);
        claimed.lock().len() == 2
    })
    .await;
    let claimed = claimed.into_inner();
    assert_eq!([&claimed[0].envelope.id, &claimed[1].envelope.id], ["b", "c"]);
}

#[tokio::test]
async fn a_trim_of_a_log_that_is_gone_spares_the_new_one() {
    let server = testkit::redis().await;
    let proxy = Proxy::to(&server).await;
    let clock = Manual(Arc::new(Mutex::new(OffsetDateTime::now_utc())));
    let (near, far) = (open(&server.url(), &clock).await, open(&proxy.url(), &clock).await);
    let bus = Bus::new(near);
    bus.declare_queue(Queue { max_age: seconds(3600), ..Queue::new(queue()) }).await.unwrap();
    Bus::new(far.clone()).read(&queue(), 0, 1, 1).await.unwrap();
    publish(&bus, &[("a", "k"), ("b", "k"), ("c", "k")]).await;
    *clock.0.lock() += seconds(7200);
    // All three are too old. What a trim alone has as an argument: how the keys of groups begin.
    proxy.hold("tp:{DB:0}:g:\r\n");
    let trimming = tokio::spawn(async move { far.housekeep().await });
    tokio::time::timeout(seconds(20), proxy.held.notified()).await.expect("it trims");
    command(&server, &["FLUSHALL"]).await;
    publish(&bus, &[("d", "k"), ("e", "k")]).await;
    proxy.go_on.notify_one();
    trimming.await.unwrap().unwrap();
    let page = bus.read(&queue(), 0, 1, 10).await.unwrap();
    let ids: Vec<&str> = page.events.iter().map(|logged| logged.envelope.id.as_str()).collect();
    assert_eq!((page.floor, ids.as_slice()), (1, ["d", "e"].as_slice()));
}

/// A bus that is far away, on a server that others are near to; an event, and one that waits for its key's turn.
async fn far_and_near(server: &testkit::Redis, proxy: &Proxy) -> (Bus, Bus) {
    // No time passes: a lease of which nobody knows would never end.
    let clock = Manual(Arc::new(Mutex::new(OffsetDateTime::now_utc())));
    let near = Bus::new(open(&server.url(), &clock).await);
    let far = Bus::new(open(&proxy.url(), &clock).await);
    declare(&near, "g", Mode::Keyed).await;
    publish(&near, &[("a", "k"), ("b", "k")]).await;
    // Now it has the state; what comes next is a commit.
    assert_eq!(far.groups().await.unwrap()[0].lag, 2);
    (far, near)
}

fn unlucky() -> Claim {
    Claim { group: "g".into(), member: "unlucky".into(), max: 1, bytes: 1 << 20 }
}

async fn is_given_back(near: &Bus) {
    eventually("it is given back", async || near.groups().await.unwrap()[0].in_flight == 0).await;
    let leased = claim(near, "g", 10).await;
    assert_eq!((leased.len(), leased[0].position, leased[0].attempt), (1, 1, 1), "its turn, and its first attempt");
    ack(near, "g", &leased).await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_costs_no_attempt() {
    let server = testkit::redis().await;
    let proxy = Proxy::to(&server).await;
    let (far, near) = far_and_near(&server, &proxy).await;
    proxy.lose_the_answer_to("unlucky");
    far.claim(unlucky()).await.unwrap_err();
    is_given_back(&near).await;
}

#[tokio::test]
async fn a_claim_that_nobody_waits_for_any_more_costs_no_attempt() {
    let server = testkit::redis().await;
    let proxy = Proxy::to(&server).await;
    let (far, near) = far_and_near(&server, &proxy).await;
    proxy.hold("unlucky");
    let claiming = tokio::spawn({
        let far = far.clone();
        async move { far.claim(unlucky()).await }
    });
    tokio::time::timeout(seconds(20), proxy.held.notified()).await.expect("it commits");
    claiming.abort();
    assert!(claiming.await.unwrap_err().is_cancelled());
    proxy.go_on.notify_one();
    eventually("it was leased, and is given back", async || {
        let known = command(&server, &["HGET", "tp:{DB:0}:g:g", "1"]).await;
        !known.is_empty() && !known.contains("unlucky")
    })
    .await;
    is_given_back(&near).await;
}

#[tokio::test]
async fn a_partitions_clock_is_its_own() {
    const OTHER: &str = "ORDERS";
    let server = testkit::redis().await;
    let open = async || bus::redis::open(&server.url()).await.unwrap();
    let (one, other) = (open().await, open().await);
    let orders = events::Name::new(OTHER).unwrap();
    for name in [queue(), orders.clone()] {
        one.declare_queue(Queue::new(name)).await.unwrap();
    }
    // As where the server's clock was set back by an hour before the other queue came into being.
    command(&server, &["HSET", "tp:{ORDERS:0}:m", "offset", "3600000"]).await;
    declare(&one, "g", Mode::Parallel).await;
    publish(&one, &[("a", "k")]).await;
    let leased = claim(&one, "g", 1).await;
    assert!(claim(&other, "g", 1).await.is_empty(), "it is leased");
    other.read(&orders, 0, 1, 1).await.unwrap();
    assert!(claim(&other, "g", 1).await.is_empty(), "no hour has passed in this partition");
    ack(&one, "g", &leased).await;
}
