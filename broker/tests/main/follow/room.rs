//! Rooms: who is in one is told what happens there, and others are told of it.

use std::time::Duration;

use broker::Settings;
use bus::Bus;
use principal::METADATA;
use serde_json::{Value, json};
use testkit::eventually;
use tokio::sync::oneshot;

use super::lab::{Lab, Running, Ws};
use crate::site::SOON;

const MEMBER: &[&str] = &["rooms:join:chat/*", "rooms:write:chat/*"];

/// The next event of the room: its name, who it is about or what it says.
async fn hear(ws: &mut Ws) -> (String, String) {
    let told = ws.event().await;
    assert_eq!(told["sub"], "room:chat/lobby");
    let event = &told["event"];
    let data = &event["data"];
    let said = data["user"].as_str().or_else(|| data["text"].as_str()).unwrap().to_owned();
    (event["event"].as_str().unwrap().to_owned(), said)
}

/// Joins, and hears of it; who is there.
async fn join(ws: &mut Ws, user: &str) -> Vec<String> {
    ws.send(json!({ "id": "j", "join": { "room": "chat/lobby" } })).await;
    let answer = answer(ws, "j").await;
    assert!(answer["ok"]["cursor"].is_string(), "{answer}");
    assert_eq!(hear(ws).await, ("JOINED".to_owned(), user.to_owned()), "itself first");
    users(&answer["ok"])
}

/// What is answered to the frame with this id.
async fn answer(ws: &mut Ws, id: &str) -> Value {
    loop {
        let frame = ws.next().await;
        if frame["id"] == id {
            return frame;
        }
    }
}

fn users(room: &Value) -> Vec<String> {
    room["members"].as_array().unwrap().iter().map(|member| member["user"].as_str().unwrap().to_owned()).collect()
}

async fn say(ws: &mut Ws, text: &str) {
    ws.send(json!({ "id": "p", "pub": { "queue": "ROOMS", "event": "MESSAGE", "subject": "chat/lobby",
        "data": { "text": text } } }))
        .await;
}

async fn get(broker: &Running, token: &str, path: &str) -> (u16, Value) {
    use http_body_util::BodyExt as _;
    let response = broker.get(path, &[(METADATA, token)]).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn who_is_in_a_room_hears_what_happens_there() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let (alice, bob) = (lab.token("alice", MEMBER), lab.token("bob", MEMBER));
    let (mut a, mut b) = (broker.ws(&alice).await, broker.ws(&bob).await);
    assert_eq!(join(&mut a, "alice").await, ["alice"]);
    assert_eq!(join(&mut b, "bob").await, ["alice", "bob"]);
    assert_eq!(hear(&mut a).await, ("JOINED".to_owned(), "bob".to_owned()));
    say(&mut a, "hello").await;
    assert_eq!(hear(&mut b).await, ("MESSAGE".to_owned(), "hello".to_owned()));

    // Over HTTP the same permission says the same.
    let http = crate::site::Client::to(broker.address);
    let post = async |token: &str, path: &str| {
        let client = http.with(METADATA, token);
        client.post(path, r#"{"text":"by HTTP"}"#).await.status.as_u16()
    };
    let outsider = lab.token("carol", &["events:write:*/*", "events:read:*/*", "rooms:join:game/*"]);
    assert_eq!(post(&bob, "/events/ROOMS/MESSAGE?subject=chat/lobby").await, 201);
    assert_eq!(post(&outsider, "/events/ROOMS/MESSAGE?subject=chat/lobby").await, 403);
    assert_eq!(post(&bob, "/events/ROOMS/MESSAGE?subject=lobby").await, 400);
    assert_eq!(post(&bob, "/events/ROOMS/MESSAGE").await, 400);
    assert_eq!(post(&bob, "/events/ROOMS/LEFT?subject=chat/lobby").await, 403, "that the bus tells");
    assert_eq!(hear(&mut b).await, ("MESSAGE".to_owned(), "by HTTP".to_owned()));

    let (status, room) = get(&broker, &alice, "/rooms/chat/lobby").await;
    assert_eq!((status, users(&room), &room["count"]), (200, vec!["alice".to_owned(), "bob".to_owned()], &json!(2)));
    assert!(room["last_event"].is_string() && room["members"][0]["since"].is_string(), "{room}");
    assert_eq!(get(&broker, &alice, "/rooms/chat/other").await.0, 404);
    assert_eq!(get(&broker, &alice, "/rooms/chat/lob%20by").await.0, 400);
    assert_eq!(get(&broker, &outsider, "/rooms/chat/lobby").await.0, 403);
    for (frame, code) in [
        (json!({ "id": "x", "join": { "room": "game/1" } }), "forbidden"),
        (json!({ "id": "x", "members": { "room": "game/1" } }), "forbidden"),
        (json!({ "id": "x", "presence": { "users": ["bob"] } }), "forbidden"),
    ] {
        b.send(frame).await;
        assert_eq!(answer(&mut b, "x").await["error"]["code"], code);
    }

    b.send(json!({ "id": "l", "leave": { "room": "chat/lobby" } })).await;
    assert!(answer(&mut b, "l").await["ok"].is_object());
    while hear(&mut a).await != ("LEFT".to_owned(), "bob".to_owned()) {}
    b.send(json!({ "id": "m", "members": { "room": "chat/lobby" } })).await;
    assert_eq!(users(&answer(&mut b, "m").await["ok"]), ["alice"]);
    a.send(json!({ "bye": {} })).await;
    eventually("nobody is there, and the room still is", SOON, || async {
        let (status, room) = get(&broker, &bob, "/rooms/chat/lobby").await;
        (status == 200 && room["count"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_names_a_room_is_in_it() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let (alice, bob) = (lab.token("alice", MEMBER), lab.token("bob", MEMBER));
    let mut ws = broker.ws(&alice).await;
    join(&mut ws, "alice").await;
    let mut stream = broker.sse(&bob, "filter=ROOMS/*%5Bsubject=chat/lobby%5D", None).await;
    assert_eq!(hear(&mut ws).await, ("JOINED".to_owned(), "bob".to_owned()));
    say(&mut ws, "hello").await;
    loop {
        let told = stream.event().await;
        if told.data["event"]["event"] == "MESSAGE" {
            break;
        }
        assert_eq!(told.data["event"]["event"], "JOINED");
    }
    ws.send(json!({ "id": "m", "members": { "room": "chat/lobby" } })).await;
    assert_eq!(users(&answer(&mut ws, "m").await["ok"]), ["alice", "bob"]);
    let refused = broker.get("/events?filter=ROOMS/*", &[(METADATA, &alice)]).await;
    assert_eq!(refused.status().as_u16(), 403, "not all rooms");
}

#[tokio::test]
async fn a_poll_elsewhere_keeps_nobody_in_a_room() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let alice = lab.token("alice", &["rooms:join:chat/*", "events:read:DB/*"]);
    let mut bob = broker.ws(&lab.token("bob", MEMBER)).await;
    join(&mut bob, "bob").await;
    let in_room = "filter=ROOMS/*%5Bsubject=chat/lobby%5D&wait=50ms";
    let both = async {
        broker.poll(&alice, in_room).await;
        assert_eq!(hear(&mut bob).await, ("JOINED".to_owned(), "alice".to_owned()));
        eventually("the poll is over", SOON, async || {
            let (_, room) = get(&broker, &alice, "/rooms/chat/lobby").await;
            let her = room["members"].as_array().unwrap().iter().find(|member| member["user"] == "alice")?;
            (her["connections"] == 0).then_some(())
        })
        .await;
        for _ in 0..16 {
            lab.later(Duration::from_secs(1));
            lab.bus.groups().await.unwrap();
        }
        assert_eq!(hear(&mut bob).await, ("LEFT".to_owned(), "alice".to_owned()));
    };
    tokio::select! {
        polled = broker.poll(&alice, "filter=DB/*&wait=25s") => panic!("nothing happens: {polled:?}"),
        () = both => {}
    }
}

#[tokio::test]
async fn a_room_is_there_for_a_day_after_its_last_event() {
    const HOUR: Duration = Duration::from_secs(3600);
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let (alice, bob) = (lab.token("alice", MEMBER), lab.token("bob", MEMBER));
    let room = async || {
        let (status, room) = get(&broker, &bob, "/rooms/chat/lobby").await;
        (status, room["count"].as_u64())
    };
    let mut a = broker.ws(&alice).await;
    join(&mut a, "alice").await;
    lab.later(48 * HOUR);
    assert_eq!(room().await, (200, Some(1)), "somebody is in it");
    a.send(json!({ "bye": {} })).await;
    eventually("she went", SOON, async || (room().await == (200, Some(0))).then_some(())).await;
    lab.later(23 * HOUR);
    assert_eq!(room().await, (200, Some(0)));
    lab.later(2 * HOUR);
    assert_eq!(room().await.0, 404);
    // Whoever may write there makes it.
    let mut b = broker.ws(&bob).await;
    say(&mut b, "hello").await;
    assert!(answer(&mut b, "p").await["ok"].is_object());
    assert_eq!(room().await, (200, Some(0)));
    lab.later(25 * HOUR);
    assert_eq!(room().await.0, 404);
    for name in ["a".repeat(65), "%2A".to_owned(), "lob%20by".to_owned()] {
        let path = format!("/rooms/chat/{name}");
        assert_eq!(get(&broker, &bob, &path).await.0, 400, "{path}");
    }
}

#[tokio::test]
async fn who_isnt_signed_in_is_in_no_room() {
    let lab = Lab::open().await;
    let broker = lab.broker().await;
    let mut request = broker.ws_anonymous().await;
    request.send(json!({ "id": "j", "join": { "room": "chat/lobby" } })).await;
    assert_eq!(answer(&mut request, "j").await["error"]["code"], "unauthenticated");
}

/// A broker in a process of its own, as far as that goes: killed, it does nothing any more, not even what is done on
/// dropping.
struct Doomed {
    running: Option<Running>,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Doomed {
    async fn start(lab: &std::sync::Arc<Lab>, url: String) -> Self {
        let (kill, killed) = oneshot::channel();
        let (started, running) = oneshot::channel();
        let lab = lab.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let bus: Bus = bus::redis::open(&url).await.unwrap();
                let running = lab.broker_on(bus, Settings::default()).await;
                drop(lab);
                assert!(started.send(running).is_ok());
                let _ = killed.await;
            });
            runtime.shutdown_background();
        });
        Self { running: Some(running.await.unwrap()), kill: Some(kill), thread: Some(thread) }
    }

    fn broker(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn kill(&mut self) {
        drop(self.kill.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[tokio::test]
async fn two_brokers_one_room() {
    let redis = testkit::redis().await;
    // For the keys alone: the brokers are on Redis.
    let lab = std::sync::Arc::new(Lab::open().await);
    let mut one = Doomed::start(&lab, redis.url()).await;
    let other = lab.broker_on(bus::redis::open(&redis.url()).await.unwrap(), Settings::default()).await;
    let (alice, bob) = (lab.token("alice", MEMBER), lab.token("bob", MEMBER));
    let (mut a, mut b) = (one.broker().ws(&alice).await, other.ws(&bob).await);
    join(&mut b, "bob").await;
    assert_eq!(join(&mut a, "alice").await, ["alice", "bob"]);
    assert_eq!(hear(&mut b).await, ("JOINED".to_owned(), "alice".to_owned()));
    say(&mut a, "one").await;
    assert_eq!(hear(&mut b).await, ("MESSAGE".to_owned(), "one".to_owned()));
    let told = a.event().await;
    let cursor = told["cursor"].clone();

    one.kill();
    say(&mut b, "two").await;
    say(&mut b, "three").await;
    assert_eq!(hear(&mut b).await.1, "two");
    let mut a = other.ws(&alice).await;
    a.send(json!({ "id": "j", "join": { "room": "chat/lobby", "cursor": cursor } })).await;
    let joined = answer(&mut a, "j").await;
    assert_eq!(users(&joined["ok"]), ["alice", "bob"]);
    assert_eq!(hear(&mut a).await.1, "two", "without a gap");
    assert_eq!(hear(&mut a).await.1, "three");
    assert_eq!(hear(&mut b).await.1, "three");
    say(&mut a, "four").await;
    assert_eq!(hear(&mut b).await.1, "four", "who went over never left");

    a.send(json!({ "bye": {} })).await;
    // The connection that died with its node counts until its grace is over.
    let left = loop {
        let frame = b.next_within(Duration::from_secs(60)).await;
        if frame["ev"].is_object() {
            break frame["ev"]["event"].clone();
        }
    };
    assert_eq!((&left["event"], &left["data"]["user"]), (&json!("LEFT"), &json!("alice")));
    say(&mut b, "end").await;
    assert_eq!(hear(&mut b).await, ("MESSAGE".to_owned(), "end".to_owned()), "told once");
}
