//! A broker that has too much to bear, as clients and publishers see it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use broker::Settings;
use bus::Queue;
use futures_util::future::select_all;
use lifecycle::Readiness;
use serde_json::json;
use testkit::eventually;

use crate::follow::lab::{Lab, Running, Ws, event, id};

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
        Self::begin_with(Settings::default()).await
    }

    async fn begin_with(settings: Settings) -> Self {
        let (lab, used) = (Lab::open().await, Arc::new(AtomicU32::new(0)));
        let (broker, readiness) = lab.broker_with_memory(used.clone(), settings).await;
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

/// It was let in only to be heard, and is told when to come back.
async fn is_turned_away(socket: &mut Ws) {
    let told = socket.next().await;
    let goaway = json!({ "reason": "overload", "retry": true, "after_ms": [2_000, 15_000] });
    assert_eq!(told["goaway"], goaway, "{told}");
    assert_eq!(socket.closed().await.0, 4005);
}

#[tokio::test]
async fn who_says_later_who_it_is_is_heard_and_then_judged() {
    let site = Burdened::begin().await;
    site.bears(75, 1).await;
    let says = async |hello: serde_json::Value| {
        let mut socket = site.broker.ws_anonymous_silent().await;
        socket.send(json!({ "hello": hello })).await;
        socket
    };
    let mut silent = site.broker.ws_anonymous_silent().await;
    let mut alice = says(json!({ "v": 1, "token": site.lab.alice() })).await;
    assert!(alice.next().await["welcome"]["conn"].is_string(), "a token in the first frame is as good as a header");
    alice.subscribe("s", "DB/*", "latest", 16).await;
    is_turned_away(&mut says(json!({ "v": 1 })).await).await;
    assert_eq!(says(json!({ "v": 1, "token": "none" })).await.closed().await.0, 4501);
    // Whoever says nothing has three seconds, not ten.
    assert_eq!(silent.closed().await.0, 4001);
}

#[tokio::test]
async fn a_socket_that_does_not_come_back_is_sent_away_while_there_is_too_much() {
    let site = Burdened::begin_with(Settings { hello: Duration::from_secs(4), ..Settings::default() }).await;
    let alice = site.lab.alice();
    let cursor = site.broker.ws(&alice).await.subscribe("s", "DB/*", "latest", 16).await["cursor"].clone();
    let cursor = cursor.as_str().unwrap();
    site.bears(90, 5).await;
    let mut back = site.broker.ws(&alice).await;
    back.subscribe("s", "DB/*", cursor, 4096).await;
    let mut new = site.broker.ws(&alice).await;
    new.send(json!({ "id": 1, "sub": { "name": "s", "filter": "DB/*" } })).await;
    assert_eq!(new.next().await["error"]["code"], "unavailable");
    let mut late = site.broker.ws_anonymous_silent().await;
    late.send(json!({ "hello": { "v": 1, "token": alice } })).await;
    assert!(late.next().await["welcome"].is_object());
    tokio::join!(is_turned_away(&mut new), is_turned_away(&mut late));
    site.lab.publish("DB/CREATE", 0..1).await;
    while id(&back.event().await) != "0" {}
}

#[tokio::test]
async fn a_view_is_told_each_key_once_a_second_while_there_is_too_much() {
    let site = Burdened::begin().await;
    let (lab, alice) = (&site.lab, site.lab.alice());
    let name = events::Name::new("STATES").unwrap();
    lab.bus.declare_queue(Queue { latest: true, ..Queue::new(name) }).await.unwrap();
    let publish = async |ids: std::ops::Range<u32>| {
        let states = ids.map(|id| event("STATES/SET", &id.to_string()).partitionkey(["a", "b"][id as usize % 2]));
        lab.bus.publish(states.collect()).await.unwrap();
    };
    site.bears(75, 1).await;
    let mut ws = site.broker.ws(&alice).await;
    ws.send(json!({ "id": 1, "sub": { "name": "s", "filter": "STATES/*", "view": "latest", "credit": 4096 } })).await;
    assert!(ws.next().await["ok"].is_object());
    let mut prev = ws.next().await["caught_up"]["cursor"].take();
    publish(0..200).await;
    let (mut ids, mut cursors) = (Vec::new(), Vec::new());
    while !(ids.contains(&"198".to_owned()) && ids.contains(&"199".to_owned())) {
        let told = ws.event().await;
        assert_eq!(told["prev"], prev, "nothing is missing in between");
        prev = told["cursor"].clone();
        ids.push(id(&told).to_owned());
        cursors.push(told["cursor"].as_str().unwrap().to_owned());
    }
    // The newest of each; a machine that is slow may need a second more.
    assert!(ids.len() <= 20, "{ids:?}");
    assert!(ids.is_sorted_by_key(|id| id.parse::<u32>().unwrap()), "in the order of the log: {ids:?}");
    // Who was cut off in the middle is told what it had not heard.
    let from = format!("filter=STATES/*&view=latest&cursor={}", cursors[0]);
    let first: u32 = ids[0].parse().unwrap();
    let rest = [198, 199].into_iter().filter(|id| *id > first).map(|id| id.to_string());
    assert!(site.broker.poll(&alice, &from).await.ids().into_iter().eq(rest));
    // What is no view leaves nothing out.
    let mut stream = site.broker.ws(&alice).await;
    stream.subscribe("s", "STATES/*", "latest", 4096).await;
    publish(200..300).await;
    for expected in 200..300 {
        assert_eq!(id(&stream.event().await), expected.to_string());
    }
}
