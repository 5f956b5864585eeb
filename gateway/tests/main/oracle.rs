//! A limit that three gateways count together, judged by an oracle that knows at which moment each request was let pass: by
//! the clock of Redis where Redis counted it, and by the system's, which is the same one, where a gateway went by its share.

use std::{
    fmt::Debug,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use testkit::{Aof, Redis, RedisOptions, eventually};
use tokio::{task::JoinSet, time::sleep};
use tracing::{Event, Metadata, Subscriber, field, span};

use crate::running::{Connection, Running};

const BOUND: Duration = Duration::from_secs(30);
const GATEWAYS: usize = 3;
const CONNECTIONS: usize = 8;
const LIMIT: usize = 300;
/// Of the window, in microseconds.
const PERIOD: i64 = 2_000_000;

/// What was said of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    at: i64,
    by_redis: bool,
    allowed: bool,
}

static SAID: Mutex<Vec<(String, Said)>> = Mutex::new(Vec::new());

/// Hears what the gateways say of limits, and nothing else.
struct Witness;

impl Subscriber for Witness {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "gateway::limit"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut read = Read { limit: String::new(), said: Said { at: 0, by_redis: false, allowed: false } };
        event.record(&mut read);
        SAID.lock().push((read.limit, read.said));
    }
}

struct Read {
    limit: String,
    said: Said,
}

impl field::Visit for Read {
    fn record_i64(&mut self, _: &field::Field, at: i64) {
        self.said.at = at;
    }
    fn record_bool(&mut self, _: &field::Field, allowed: bool) {
        self.said.allowed = allowed;
    }
    fn record_str(&mut self, field: &field::Field, limit: &str) {
        if field.name() == "limit" {
            limit.clone_into(&mut self.limit);
        }
    }
    fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
        if field.name() == "judge" {
            self.said.by_redis = format!("{value:?}") == "Redis";
        }
    }
}

/// What was said of this limit, in order.
fn said(limit: &str) -> Vec<Said> {
    let all = SAID.lock();
    let mut said: Vec<_> = all.iter().filter(|(name, _)| name == limit).map(|(_, said)| *said).collect();
    said.sort_unstable();
    said
}

async fn gateways(redis: &Redis, limit: &str, shared: &str) -> Vec<Running> {
    static WITNESS: Once = Once::new();
    WITNESS.call_once(|| tracing::subscriber::set_global_default(Witness).unwrap());
    let sections = format!(
        "shared: {{redis: '{}'{shared}}}\n\
         routes:\n\
         - match: {{path: /}}\n\
         \x20 respond: {{status: 200}}\n\
         \x20 rate_limit: {{name: {limit}, requests: {LIMIT}, per: {}s, key: route}}\n",
        redis.url(),
        PERIOD / 1_000_000,
    );
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        gateways.push(Running::start(&sections).await);
    }
    for gateway in &gateways {
        eventually("all are on the roll", BOUND, async || {
            (gateway.ops("/shared").await["redis"]["gateways"] == GATEWAYS).then_some(())
        })
        .await;
    }
    gateways
}

/// Clients who ask one after the other, each on its connection, until there were so many requests or all is over.
struct Clients {
    tasks: JoinSet<()>,
    over: Arc<AtomicBool>,
}

impl Clients {
    fn start(gateways: &[Running], requests: usize) -> Self {
        let (over, left) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(requests)));
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            let address = gateways[number % gateways.len()].address;
            let (over, left) = (Arc::clone(&over), Arc::clone(&left));
            tasks.spawn(async move {
                let mut connection = Connection::open(address).await;
                let one_less = |left: usize| left.checked_sub(1);
                while !over.load(Relaxed) && left.fetch_update(Relaxed, Relaxed, one_less).is_ok() {
                    let status = connection.send("GET", "/", &[], "").await.status.as_u16();
                    assert!(status == 200 || status == 429, "{status}");
                }
            });
        }
        Self { tasks, over }
    }

    async fn done(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// The most that was let pass in any span of this length.
fn most_within(span: i64, passed: &[i64]) -> usize {
    let (mut most, mut first) = (0, 0);
    for (last, at) in passed.iter().enumerate() {
        while at - passed[first] >= span {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

fn passed(said: &[Said], which: impl Fn(&Said) -> bool) -> Vec<i64> {
    said.iter().filter(|said| said.allowed && which(said)).map(|said| said.at).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_it_is_never_more_than_the_limit_and_at_most_a_64th_less() {
    const REQUESTS: usize = 10_000;
    let redis = Redis::start(RedisOptions { aof: Aof::Off, ..RedisOptions::default() }).await;
    // Patient, so that a slow machine isn't taken for a slow Redis.
    let gateways = gateways(&redis, "exact", ", timeout: 20s, limit_timeout: 20s").await;
    Clients::start(&gateways, REQUESTS).done().await;
    let said = said("exact");
    assert_eq!(said.len(), REQUESTS, "each request is judged once");
    assert!(said.iter().all(|said| said.by_redis));
    let passed = passed(&said, |_| true);
    assert_eq!(most_within(PERIOD, &passed), LIMIT, "the limit is reached, and not exceeded");
    // Whoever was refused came when a span longer by a 64th was full.
    let strict = PERIOD + PERIOD / 64 + 1;
    for refused in said.iter().filter(|said| !said.allowed) {
        let before = passed.partition_point(|at| *at <= refused.at);
        let gone = passed.partition_point(|at| *at <= refused.at - strict);
        assert!(before - gone >= LIMIT, "refused at {} with {} in the window", refused.at, before - gone);
    }
    for gateway in gateways {
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_it_is_at_most_the_limit_and_a_share_for_each() {
    /// Between reading two clocks a thread may be held up.
    const SLACK: i64 = 20_000;
    // It forgets nothing when it is killed.
    let mut redis = testkit::redis().await;
    let gateways = gateways(&redis, "cut_off", "").await;
    let clients = Clients::start(&gateways, usize::MAX);
    let together = async |wanted: bool| {
        for gateway in &gateways {
            eventually("Redis is there, or is not", BOUND, async || {
                (gateway.ops("/shared").await["redis"]["limits_together"] == wanted).then_some(())
            })
            .await;
        }
    };
    let window = Duration::from_micros(PERIOD.unsigned_abs());
    sleep(window).await;
    redis.pause();
    together(false).await;
    sleep(window).await;
    redis.resume();
    together(true).await;
    sleep(window).await;
    redis.kill();
    together(false).await;
    sleep(window).await;
    redis.restart().await;
    together(true).await;
    sleep(window).await;
    clients.over.store(true, Relaxed);
    // No answer but 200 and 429 meanwhile.
    clients.done().await;

    let said = said("cut_off");
    let by_redis = passed(&said, |said| said.by_redis);
    let by_share = passed(&said, |said| !said.by_redis);
    assert!(!by_redis.is_empty() && by_share.len() >= LIMIT, "both had their say: {}", by_share.len());
    // Redis counts all that it lets pass; each gateway counts all that its share lets pass. So the sum is the bound.
    let share = LIMIT / GATEWAYS;
    let bound = |most: usize, span: i64, passed: &[i64]| {
        let reached = most_within(span, passed);
        assert!(reached <= most, "{reached} of at most {most}");
    };
    bound(LIMIT, PERIOD, &by_redis);
    bound(GATEWAYS * share, PERIOD - SLACK, &by_share);
    bound(LIMIT + GATEWAYS * share, PERIOD - SLACK, &passed(&said, |_| true));
    for gateway in gateways {
        gateway.stop().await;
    }
}
