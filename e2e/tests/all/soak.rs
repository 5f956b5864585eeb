//! Ten instances under steady load while they are killed, frozen, slowed and cut off at random: what clients notice of it.
//!
//! `TURNPIKE_SOAK=300s` says for how long (a minute by default), `TURNPIKE_SOAK_SEED` repeats a run, `TURNPIKE_SOAK_RATE` is
//! requests a second. What it found is printed as a table.

use std::{
    env,
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use e2e::{Client, Herd, herd};
use hyper::Method;
use testkit::{Fault, Random, Way, eventually};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

const INSTANCES: usize = 10;
/// Hurt at the same time, at most.
const HURT: usize = 3;
/// A try of a GET is given up for another after half a second; what is dead is noticed within three.
const UPSTREAM: &str = "retry: {attempts: 2, per_try_timeout: 500ms}\nhealth: {interval: 1s, timeout: 500ms}";
const METHOD: &str = "method=\"GetProduct\"";
const PRODUCTS: [&str; 4] = ["teapot", "assam-tea", "desk-lamp", "bread-knife"];
/// Longer than anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the parts of a run last.
struct Plan {
    healthy: Duration,
    slow: Duration,
    storm: Duration,
    rate: u32,
    seed: u64,
}

impl Plan {
    fn read() -> Self {
        let of = |name: &str| env::var(name).ok();
        let all = of("TURNPIKE_SOAK").map_or(60, |text| text.trim_end_matches('s').parse().expect("as in 300s"));
        let all = Duration::from_secs(all).max(Duration::from_secs(30));
        let number = |text: String| text.parse().expect("a number");
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let slow = Duration::from_secs(10);
        Self {
            healthy: all / 3,
            slow,
            storm: all - all / 3 - slow,
            rate: of("TURNPIKE_SOAK_RATE").map_or(150, |text| text.parse().expect("a number")),
            seed: of("TURNPIKE_SOAK_SEED").map_or(since, number),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_instances_heal_under_load() {
    let plan = Plan::read();
    println!("soak: seed {}", plan.seed);
    let redis = testkit::redis().await;
    let mut herd = Herd::start(INSTANCES, &redis.url(), UPSTREAM, plan.seed).await;
    let load = Load::start(herd.client(), plan.rate);
    // Connections are made, and latencies known.
    sleep(Duration::from_secs(3)).await;
    let mut table = Table::default();

    let (spread, healthy) = shares(&herd, &load, plan.healthy).await;
    table.phase("healthy", plan.healthy, &healthy);

    let victim = 3;
    let usual = healthy.percentile(50);
    // Ten times as long as it takes a client; the gateway's own part stays what it is.
    herd.proxy(victim).set_both(Fault::Delay(usual * 9 / 2));
    sleep(Duration::from_secs(2)).await;
    let (slowed, slow) = shares(&herd, &load, plan.slow - Duration::from_secs(2)).await;
    herd.proxy(victim).set_both(Fault::None);
    table.phase("one slow", plan.slow, &slow);

    let before = load.taken();
    let events = storm(&mut herd, &plan).await;
    table.phase("storm", plan.storm, &load.since(before));
    eventually("every endpoint is healthy again", PATIENCE, || async {
        let upstreams = herd.ops().get("/upstreams").await.expect(200).json();
        let endpoints = upstreams["upstreams"]["product"].as_array().unwrap().clone();
        let well = endpoints.iter().all(|endpoint| endpoint["healthy"] == true && endpoint["ejected"] != true);
        (well && endpoints.len() == INSTANCES).then_some(())
    })
    .await;

    let all = load.stop().await;
    let counted = Counted::read(&herd).await;
    table.report(&plan, &events, &all, &counted, &spread, &slowed[victim]);

    assert!(all.failed() * 10_000 <= all.sent.len(), "{} of {} failed: {:?}", all.failed(), all.sent.len(), all.why());
    // A fifth of what was asked, and three of each core for each time that the budget forgets.
    let floor = 3 * (1 + (plan.healthy + plan.slow + plan.storm).as_secs() / 10);
    assert!(counted.budgeted * 5 <= counted.requests + 5 * floor, "{counted:?}");
    for share in &spread {
        assert!(share.is_within(0.10), "an instance had {share:?} of what all had alike");
    }
    assert!(slowed[victim].of_all < 0.05, "the slow one had {:?}", slowed[victim]);
}

/// A steady stream of requests, whatever becomes of those before.
struct Load {
    sent: Arc<Mutex<Vec<Sent>>>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Sent {
    took: Duration,
    /// None: it was answered as it should be.
    failure: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Sample {
    sent: Vec<Sent>,
}

impl Load {
    fn start(client: Client, rate: u32) -> Self {
        let (sent, stop) = (Arc::<Mutex<Vec<Sent>>>::default(), Arc::new(AtomicBool::new(false)));
        let (kept, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / rate);
            // A machine that stalls isn't made up for by a burst.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut under_way = JoinSet::new();
            for number in 0.. {
                ticks.tick().await;
                if stopped.load(Relaxed) {
                    break;
                }
                let (client, kept) = (client.clone(), Arc::clone(&kept));
                under_way.spawn(async move {
                    let sent = ask(&client, PRODUCTS[number % PRODUCTS.len()]).await;
                    kept.lock().unwrap().push(sent);
                });
                while under_way.try_join_next().is_some() {}
            }
            under_way.join_all().await;
        });
        Self { sent, stop, task }
    }

    /// How many have been answered so far.
    fn taken(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    fn since(&self, before: usize) -> Sample {
        Sample { sent: self.sent.lock().unwrap()[before..].to_vec() }
    }

    async fn stop(self) -> Sample {
        self.stop.store(true, Relaxed);
        self.task.await.unwrap();
        Sample { sent: self.sent.lock().unwrap().clone() }
    }
}

async fn ask(client: &Client, product: &str) -> Sent {
    let started = Instant::now();
    let answer = client.try_send(Method::GET, &format!("/products/{product}"), None).await;
    let failure = match answer {
        Ok(answer) if answer.status == 200 && answer.json()["id"] == product => None,
        Ok(answer) => Some(format!("{} {}", answer.status, answer.text())),
        Err(error) => Some(error),
    };
    Sent { took: started.elapsed(), failure }
}

impl Sample {
    fn failed(&self) -> usize {
        self.sent.iter().filter(|sent| sent.failure.is_some()).count()
    }

    fn why(&self) -> Vec<&str> {
        self.sent.iter().filter_map(|sent| sent.failure.as_deref()).take(5).collect()
    }

    fn percentile(&self, percent: usize) -> Duration {
        let mut took: Vec<_> = self.sent.iter().map(|sent| sent.took).collect();
        took.sort_unstable();
        took.get(took.len() * percent / 100).or(took.last()).copied().unwrap_or_default()
    }
}

/// What one instance had of the requests.
#[derive(Clone, Copy, Debug)]
struct Share {
    calls: f64,
    /// Had all had the same.
    mean: f64,
    of_all: f64,
}

impl Share {
    /// Whether it is no further from the mean than this, beyond what chance alone makes of so few (3.5 times its deviation).
    fn is_within(self, part: f64) -> bool {
        (self.calls - self.mean).abs() <= part * self.mean + 3.5 * self.mean.sqrt()
    }
}

/// How requests spread over the instances for a while, as those count them, and how they went.
async fn shares(herd: &Herd, load: &Load, time: Duration) -> (Vec<Share>, Sample) {
    let (taken, before) = (load.taken(), herd.answered(METHOD).await);
    sleep(time).await;
    let (after, sample) = (herd.answered(METHOD).await, load.since(taken));
    let calls: Vec<u32> = after.iter().zip(&before).map(|(a, b)| u32::try_from(a - b).unwrap()).collect();
    let all: f64 = calls.iter().copied().map(f64::from).sum();
    let mean = all / f64::from(u32::try_from(calls.len()).unwrap());
    let share = |calls| Share { calls, mean, of_all: calls / all };
    (calls.into_iter().map(f64::from).map(share).collect(), sample)
}

/// What happens to an instance, and for how long.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Kill,
    Freeze,
    Slow,
    Cut,
    Vanish,
}

/// Harms instances until the time is over, and heals them all.
async fn storm(herd: &mut Herd, plan: &Plan) -> Vec<String> {
    let mut random = Random::new(plan.seed);
    let (start, mut log) = (Instant::now(), Vec::new());
    let end = start + plan.storm;
    let mut hurt: Vec<(usize, Harm, Instant)> = Vec::new();
    loop {
        let next = Instant::now() + Duration::from_millis(500 + random.below(2_000));
        sleep_until(next.min(end)).await;
        let now = Instant::now();
        let healed: Vec<_> = hurt.iter().copied().filter(|(_, _, until)| *until <= now || now >= end).collect();
        for (number, harm, _) in healed {
            heal(herd, number, harm);
            hurt.retain(|(other, ..)| *other != number);
        }
        if now >= end {
            return log;
        }
        let number = usize::try_from(random.below(INSTANCES as u64)).unwrap();
        if hurt.len() == HURT || hurt.iter().any(|(other, ..)| *other == number) {
            continue;
        }
        let harm =
            [Harm::Kill, Harm::Freeze, Harm::Slow, Harm::Cut, Harm::Vanish][usize::try_from(random.below(5)).unwrap()];
        let time = Duration::from_millis(1_000 + random.below(4_000));
        log.push(format!(
            "{:5.1} s  product-{}  {harm:?} for {:.1} s",
            (now - start).as_secs_f64(),
            number + 1,
            time.as_secs_f64()
        ));
        match harm {
            Harm::Kill => herd.kill(number),
            Harm::Freeze => herd.pause(number),
            Harm::Slow => herd.proxy(number).set_both(Fault::Delay(Duration::from_millis(50 + random.below(200)))),
            Harm::Cut => herd.proxy(number).cut(),
            Harm::Vanish => herd.proxy(number).set(Way::Back, Fault::Swallow),
        }
        hurt.push((number, harm, now + time));
    }
}

fn heal(herd: &mut Herd, number: usize, harm: Harm) {
    match harm {
        Harm::Kill => herd.begin_restart(number),
        Harm::Freeze => herd.resume(number),
        Harm::Slow | Harm::Vanish => herd.proxy(number).set_both(Fault::None),
        Harm::Cut => {}
    }
}

/// What the gateway has counted.
#[derive(Debug)]
struct Counted {
    requests: u64,
    /// Retries that the budget pays for.
    budgeted: u64,
    /// Of what never arrived.
    free: u64,
    refused: u64,
}

impl Counted {
    async fn read(herd: &Herd) -> Self {
        let page = herd.ops().get("/metrics").await.expect(200).text();
        let of = |metric: &str, label: &str| herd::sum(&page, metric, label);
        let retries = |reason: &str| of("turnpike_upstream_retries_total", &format!("reason=\"{reason}\""));
        let (free, refused) = (retries("connect") + retries("closed"), retries("budget"));
        Self {
            requests: of("turnpike_upstream_requests_total", "upstream=\"product\""),
            budgeted: of("turnpike_upstream_retries_total", "upstream=\"product\"") - free - refused,
            free,
            refused,
        }
    }
}

#[derive(Default)]
struct Table(String);

impl Table {
    fn phase(&mut self, name: &str, time: Duration, sample: &Sample) {
        let (half, most) = (sample.percentile(50), sample.percentile(99));
        let (sent, failed) = (sample.sent.len(), sample.failed());
        writeln!(self.0, "| {name:8} | {:4} s | {sent:8} | {failed:6} | {half:9.1?} | {most:9.1?} |", time.as_secs())
            .unwrap();
    }

    fn report(
        &self,
        plan: &Plan,
        events: &[String],
        all: &Sample,
        counted: &Counted,
        spread: &[Share],
        slowed: &Share,
    ) {
        let Counted { requests, budgeted, free, refused } = counted;
        let apart = |share: &Share| 100.0 * (share.calls / share.mean - 1.0);
        let (sent, failed) = (all.sent.len(), all.failed());
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
        let success = 100.0 - 100.0 * failed as f64 / sent as f64;
        println!("soak: {} instances, {} requests a second, seed {}", INSTANCES, plan.rate, plan.seed);
        println!(
            "| phase    | time   | requests | failed |       p50 |       p99 |\n|---|--:|--:|--:|--:|--:|\n{}",
            self.0
        );
        println!("success: {success:.4} % ({failed} of {sent} failed)");
        println!(
            "retries: {budgeted} of {requests} from the budget, {refused} refused by it; {free} of what never arrived"
        );
        println!(
            "spread while healthy: {:+.1} % to {:+.1} % of the mean of {:.0} calls",
            spread.iter().map(apart).fold(f64::MAX, f64::min),
            spread.iter().map(apart).fold(f64::MIN, f64::max),
            spread[0].mean,
        );
        println!("the slow one, from two seconds on: {:.2} % of the calls", 100.0 * slowed.of_all);
        println!("{} harms:\n{}", events.len(), events.join("\n"));
    }
}
