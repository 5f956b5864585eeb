//! A broker that has too much to bear, as clients and publishers see it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::select_all;
use lifecycle::Readiness;
use serde_json::json;
use testkit::eventually;

use crate::follow::lab::{Lab, Running, Ws, id};

/// A level is left after ten seconds.
const LATER: Duration = Duration::from_secs(60);

struct Burdened {
    lab: Lab,
    broker: Running,
    readiness: Readiness,
    used: Arc<AtomicU32>,
}

impl Burdened {
    async fn begin() -> Self {
        let (lab, used) = (Lab::open().await, Arc::new(AtomicU32::new(0)));
        let (broker, readiness) = lab.broker_with_memory(used.clone()).await;
        Self { lab, broker, readiness, used }
    }

    /// So much of its memory is used; waits until it takes the lowest priority that it takes then, and no lower one.
    async fn bears(&self, percent: u32, lowest: u8) {
        self.used.store(percent, Relaxed);
        eventually(&format!("the lowest priority taken is {lowest}"), LATER, || async {
            let taken = self.publish(lowest).await == 201;
            (taken && (lowest == 0 || self.publish(lowest - 1).await == 429)).then_some(())
        })
        .await;
    }

    async fn publish(&self, priority: u8) -> u16 {
        let event = json!({"specversion": "1.0", "id": format!("e{}", rand::random::<u64>()), "type": "t", "queue": "DB",
            "event": "CREATE", "priority": priority, "data": {}});
        self.broker.post(&self.lab.alice(), "/events", "application/cloudevents+json", &event.to_string()).await
    }

    /// How a poll is answered that begins at the latest, and when it may come again.
    async fn poll(&self, token: &str, query: &str) -> (u16, Option<String>) {
        let polled = self.broker.poll(token, &format!("filter=DB/*&wait=1ms&{query}")).await;
        (polled.status, polled.retry_after)
    }

    /// How it is answered that somebody asks whether it is let in.
    async fn asks(&self, headers: &[(&str, &str)]) -> u16 {
        self.broker.get("/events", headers).await.status().as_u16()
    }
}

/// Whether a metric of this name has a line with all of that.
fn is_told(name: &str, parts: &[&str]) -> bool {
    let has = |line: &str| line.starts_with(name) && parts.iter().all(|part| line.contains(part));
    telemetry::render().lines().any(has)
}

#[tokio::test]
async fn each_level_takes_fewer_and_is_left_late() {
    let site = Burdened::begin().await;
    let alice = site.lab.alice();
    let by_name = [(principal::METADATA, &*alice)];
    site.bears(0, 0).await;
    assert_eq!(
        (site.asks(&by_name).await, site.asks(&[]).await),
        (400, 400),
        "both are let in, and have named no filter"
    );
    let mut follower = site.broker.ws(&alice).await;
    let cursor = follower.subscribe("s", "DB/*", "latest", 4096).await["cursor"].as_str().unwrap().to_owned();
    let goes_on = format!("cursor={cursor}");

    // Busy: known clients come in, what may be dropped is refused.
    site.bears(75, 1).await;
    assert_eq!(site.poll(&alice, "from=latest").await.0, 204);
    assert_eq!((site.asks(&by_name).await, site.asks(&[]).await), (400, 503), "nobody in particular isn't");
    assert!(site.readiness.is_ready());

    // Strained: only who comes back.
    site.bears(90, 5).await;
    let (status, retry_after) = site.poll(&alice, "from=latest").await;
    assert_eq!(status, 503);
    assert!((2..=15).contains(&retry_after.unwrap().parse::<u32>().unwrap()));
    assert_eq!(site.poll(&alice, &goes_on).await.0, 200);
    assert!(!site.readiness.is_ready());
    let mut back = site.broker.ws(&alice).await;
    back.send(json!({"id": 1, "sub": {"name": "a", "filter": "DB/*"}})).await;
    assert_eq!(back.next().await["error"]["code"], "unavailable");
    back.subscribe("b", "DB/*", &cursor, 1).await;

    // Shedding: nobody; what is critical is recorded, and told to those who are there.
    site.bears(96, 9).await;
    assert_eq!(site.poll(&alice, &goes_on).await.0, 503);
    assert_eq!(site.asks(&by_name).await, 503);
    assert!(is_told("turnpike_broker_shed_level", &[" 3"]));
    for action in ["connection", "publish"] {
        let parts = [&*format!("action=\"{action}\""), "reason=\"memory\""];
        assert!(is_told("turnpike_broker_shed_total", &parts), "{action}");
    }
    let last = site.lab.bus.read(&events::Name::new("DB").unwrap(), 0, 1, 1000).await.unwrap();
    let last = last.events.last().unwrap().envelope.id.clone();
    while id(&follower.event().await) != last {}

    // Calm again, ten seconds later.
    site.used.store(10, Relaxed);
    assert_eq!(site.poll(&alice, &goes_on).await.0, 503, "not at once");
    site.bears(10, 0).await;
    assert_eq!(site.poll(&alice, "from=latest").await.0, 204);
    assert!(site.readiness.is_ready());
}

#[tokio::test]
async fn some_are_sent_away_and_told_to_come_back() {
    let site = Burdened::begin().await;
    let alice = site.lab.alice();
    let mut sockets = Vec::new();
    // Two in a hundred a second: of sixty, one.
    for _ in 0..60 {
        sockets.push(site.broker.ws(&alice).await);
    }
    site.used.store(99, Relaxed);
    let goaways = sockets.iter_mut().map(|socket| Box::pin(socket.next()));
    let told = tokio::time::timeout(LATER, select_all(goaways)).await.expect("somebody is sent away").0;
    assert_eq!((&told["goaway"]["reason"], &told["goaway"]["retry"]), (&json!("overload"), &json!(true)));
    let closes: Vec<_> = sockets.iter_mut().map(|socket: &mut Ws| Box::pin(socket.closed())).collect();
    let (code, _) = tokio::time::timeout(LATER, select_all(closes)).await.expect("and closed").0;
    assert_eq!(code, 4005);
    assert!(is_told("turnpike_broker_shed_total", &["action=\"goaway\"", "reason=\"memory\""]));
}
