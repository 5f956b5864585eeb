//! Queues, groups and connections, as an operator sees and changes them.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Consumer, Delivery, Failure, Group, Handler, Mode};
use http::Method;
use serde_json::{Value, json};
use testkit::eventually;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::site::{SOON, Site};

/// Refuses everything.
struct Refuser;

#[async_trait]
impl Handler for Refuser {
    async fn handle(&self, delivery: &Delivery) -> Result<(), Failure> {
        Err(Failure::Dead { reason: format!("{} is not wanted", delivery.envelope.id) })
    }
}

fn refuser(site: &Site, group: &str) -> DropGuard {
    let group = Group::new(group, "DB/*".parse().unwrap(), Mode::Keyed);
    let stop = CancellationToken::new();
    tokio::spawn(Consumer::new(site.bus.clone(), group, Arc::new(Refuser)).run(stop.clone(), stop.clone()));
    stop.drop_guard()
}

async fn publish(site: &Site, count: usize) {
    for n in 0..count {
        site.alice().post(&format!("/events/DB/CREATE?id=e{n}"), "{}").await.json(201);
    }
}

async fn group(site: &Site, until: impl Fn(&Value) -> bool) -> Value {
    eventually("the group is as it should be", SOON, || async {
        let answer = site.operator().get("/groups/refuser").await;
        (answer.status == 200).then(|| answer.json(200)).filter(|group| until(group))
    })
    .await
}

#[tokio::test]
async fn queues_are_listed_in_pages() {
    let site = Site::start().await;
    for queue in ["CARTS", "DB", "ORDERS"] {
        site.alice().post(&format!("/events/{queue}/CREATE"), "{}").await.json(201);
    }
    let operator = site.operator();
    let all = operator.get("/queues").await.json(200);
    assert_eq!(all["queues"].as_array().unwrap().len(), 3);
    assert!(all["next"].is_null());
    let first = operator.get("/queues?limit=2").await.json(200);
    assert_eq!((&first["queues"][1]["name"], &first["next"]), (&json!("DB"), &json!("DB")));
    let second = operator.get("/queues?limit=2&after=DB").await.json(200);
    assert_eq!((&second["queues"][0]["name"], &second["next"]), (&json!("ORDERS"), &Value::Null));

    let queue = operator.get("/queues/DB").await.json(200);
    assert_eq!((&queue["max_age"], &queue["events"]), (&json!("7d"), &json!(1)));
    assert_eq!((&queue["partitions"][0]["floor"], &queue["partitions"][0]["next"]), (&json!(1), &json!(2)));
    operator.get("/queues/NONE").await.problem(404);
    for query in ["limit=0", "limit=1001", "limit=x", "colour=red"] {
        operator.get(&format!("/queues?{query}")).await.problem(400);
    }
}

#[tokio::test]
async fn a_queue_is_made_and_its_settings_changed() {
    let site = Site::start().await;
    let operator = site.operator();
    let put =
        async |queue: &str, body: &str| operator.send(Method::PUT, &format!("/queues/{queue}"), body.to_owned()).await;
    let made = put("DB", r#"{"partitions":4,"max_age":"36h"}"#).await.json(201);
    assert_eq!((made["partitions"].as_array().unwrap().len(), &made["max_age"]), (4, &json!("36h")));
    // What isn't said stays.
    let changed = put("DB", r#"{"max_age":"1d"}"#).await.json(200);
    assert_eq!((changed["partitions"].as_array().unwrap().len(), &changed["max_age"]), (4, &json!("1d")));
    let all = r#"{"max_bytes":2097152,"max_len":10000,"overflow":"drop_oldest","dedupe":"5m","latest":true,"realtime":true,"journal":true}"#;
    let set: Value = serde_json::from_str(all).unwrap();
    let told = put("DB", all).await.json(200);
    assert!(set.as_object().unwrap().iter().all(|(field, value)| told[field] == *value), "{told}");
    let told = put("DB", r#"{"max_bytes":null,"overflow":"reject"}"#).await.json(200);
    assert_eq!(
        (&told["max_bytes"], &told["max_len"], &told["overflow"]),
        (&Value::Null, &json!(10000), &json!("reject"))
    );
    site.alice().post("/events/DB/CREATE", "{}").await.json(201);
    let detail = put("DB", r#"{"partitions":2}"#).await.problem(409);
    assert!(detail.contains("partitions"), "{detail}");
    put("SYS", "{}").await.problem(403);
    for (queue, body) in [
        ("db", "{}"),
        ("DB", ""),
        ("DB", "[]"),
        ("DB", r#"{"partitions":0}"#),
        ("NEW", r#"{"partitions":257}"#),
        ("NEW", r#"{"partitions":"2"}"#),
        ("NEW", r#"{"max_age":"1s"}"#),
        ("NEW", r#"{"max_age":"for ever"}"#),
        ("NEW", r#"{"overflow":"ignore"}"#),
        ("NEW", r#"{"max_bytes":1000}"#),
        ("NEW", r#"{"max_len":0}"#),
        ("NEW", r#"{"dedupe":"25h"}"#),
        ("NEW", r#"{"latest":"yes"}"#),
        ("NEW", r#"{"colour":"red"}"#),
    ] {
        put(queue, body).await.problem(400);
    }
    operator.get("/queues/NEW").await.problem(404);
}

#[tokio::test]
async fn who_came_and_went_is_kept_as_long_as_an_operator_says() {
    for (site, _redis) in Site::every().await {
        let operator = site.operator();
        let put = async |queue: &str, body: &str| {
            operator.send(Method::PUT, &format!("/queues/{queue}"), body.to_owned()).await
        };
        for (queue, most) in [("PRESENCE", json!(1_000_000)), ("ROOMS", Value::Null)] {
            let made = put(queue, r#"{"partitions":2,"max_age":"30d"}"#).await.json(201);
            assert_eq!((&made["max_age"], &made["latest"], &made["max_len"]), (&json!("30d"), &json!(true), &most));
            let made = put(queue, r#"{"partitions":3}"#).await.json(200);
            assert_eq!(made["partitions"].as_array().unwrap().len(), 3, "nobody was there yet");
        }
        let attendance = bus::Attendance::new(site.bus.clone());
        let stop = CancellationToken::new();
        let _stops = stop.clone().drop_guard();
        tokio::spawn(attendance.clone().run(stop));
        let mut alice = attendance.come("alice", "c_1");
        alice.join(&"chat/lobby".parse().unwrap()).await.unwrap();
        let is_online = async || site.bus.online(&["alice".to_owned()]).await.unwrap()[0].online.then_some(());
        eventually("alice is online", SOON, is_online).await;
        for queue in ["PRESENCE", "ROOMS"] {
            let detail = put(queue, r#"{"partitions":2}"#).await.problem(409);
            assert!(detail.contains(&format!("{queue} has events and 3 partitions")), "{detail}");
            let detail = put(queue, r#"{"latest":false}"#).await.problem(400);
            assert!(detail.starts_with("latest: "), "{detail}");
            let changed = put(queue, r#"{"max_age":"1h","max_len":1000}"#).await.json(200);
            assert_eq!((&changed["max_age"], &changed["max_len"]), (&json!("1h"), &json!(1000)));
        }
        assert_eq!(is_online().await, Some(()));
        put("RECEIPT", "{}").await.problem(403);
    }
}

#[tokio::test]
async fn looking_and_changing_need_their_scopes() {
    let site = Site::start().await;
    publish(&site, 1).await;
    let (anonymous, reader) = (site.anonymous(), site.client("viewer", &["bus:read"]));
    for path in ["/queues", "/queues/DB", "/groups"] {
        reader.get(path).await.json(200);
        anonymous.get(path).await.problem(401);
        site.alice().get(path).await.problem(403);
    }
    for path in ["/connections", "/groups/refuser/dead-letters"] {
        reader.get(path).await.problem(403);
        anonymous.get(path).await.problem(401);
    }
    reader.send(Method::PUT, "/queues/DB", "{}").await.problem(403);
    for verb in ["redrive", "discard", "seek"] {
        reader.post(&format!("/groups/refuser/{verb}"), r#"{"all":true}"#).await.problem(403);
    }
}

#[tokio::test]
async fn dead_letters_are_seen_redriven_and_discarded() {
    let site = Site::start().await;
    publish(&site, 3).await;
    let consumer = refuser(&site, "refuser");
    let seen = group(&site, |group| group["dead"] == 3).await;
    assert_eq!((&seen["queue"], &seen["filter"], &seen["mode"]), (&json!("DB"), &json!("DB/*"), &json!("keyed")));
    assert_eq!((&seen["lag"], &seen["members"], &seen["oldest"]), (&json!(0), &json!(1), &Value::Null));
    let operator = site.operator();
    let page = operator.get("/groups/refuser/dead-letters?limit=2").await.json(200);
    assert_eq!((page["dead_letters"].as_array().unwrap().len(), &page["next"]), (2, &json!("0:2")));
    let letter = &page["dead_letters"][0];
    assert_eq!((&letter["partition"], &letter["position"], &letter["attempts"]), (&json!(0), &json!(1), &json!(1)));
    assert_eq!((&letter["error"], &letter["event"]["id"]), (&json!("e0 is not wanted"), &json!("e0")));
    let rest = operator.get("/groups/refuser/dead-letters?after=0:2").await.json(200);
    assert_eq!((&rest["dead_letters"][0]["position"], &rest["next"]), (&json!(3), &Value::Null));

    drop(consumer);
    let command =
        async |verb: &str, body: Value| operator.post(&format!("/groups/refuser/{verb}"), body.to_string()).await;
    let one = json!({"letters": [{"partition": 0, "position": 1}]});
    assert_eq!(command("discard", one.clone()).await.json(200), json!({"discarded": 1}));
    assert_eq!(command("discard", one).await.json(200), json!({"discarded": 0}));
    assert_eq!(command("redrive", json!({"all": true})).await.json(200), json!({"redriven": 2}));
    assert_eq!(group(&site, |_| true).await["dead"], 0);
    for wrong in [
        json!({}),
        json!({"all": false}),
        json!({"letters": []}),
        json!({"all": true, "letters": [{"partition": 0, "position": 1}]}),
        json!({"letters": [{"partition": 0}]}),
        json!({"letters": [{"partition": -1, "position": 1}]}),
        json!({"letters": vec![json!({"partition": 0, "position": 1}); 1001]}),
        json!([]),
    ] {
        command("redrive", wrong.clone()).await.problem(400);
        command("discard", wrong).await.problem(400);
    }
    for after in ["x", "0", "0:", ":1", "-1:0", "0:99999999999999999999"] {
        operator.get(&format!("/groups/refuser/dead-letters?after={after}")).await.problem(400);
    }
    operator.get("/groups/nobody/dead-letters").await.problem(404);
    operator.post("/groups/nobody/redrive", r#"{"all":true}"#).await.problem(404);
}

#[tokio::test]
async fn a_group_is_moved_after_a_rehearsal() {
    let site = Site::start().await;
    publish(&site, 3).await;
    drop(refuser(&site, "refuser"));
    let consumer = refuser(&site, "refuser");
    group(&site, |group| group["dead"] == 3).await;
    drop(consumer);
    let operator = site.operator();
    let seek = async |body: Value| operator.post("/groups/refuser/seek", body.to_string()).await;
    let rehearsed = seek(json!({"position": 2, "dry_run": true})).await.json(200);
    assert_eq!(rehearsed, json!({"again": 2, "skipped": 0, "leases": 0, "dry_run": true}));
    assert_eq!(group(&site, |_| true).await["next"], json!([4]));
    assert_eq!(seek(json!({"to": "earliest"})).await.json(200)["again"], 3);
    assert_eq!(group(&site, |_| true).await["next"], json!([1]));
    assert_eq!(seek(json!({"to": "latest"})).await.json(200)["skipped"], 3);
    assert_eq!(seek(json!({"time": "2020-01-01T00:00:00Z"})).await.json(200)["again"], 3);
    for wrong in [
        json!({}),
        json!({"to": "somewhere"}),
        json!({"to": "latest", "position": 1}),
        json!({"time": "yesterday"}),
        json!({"position": -1}),
        json!({"position": u64::MAX}),
        json!({"to": "latest", "dryrun": true}),
    ] {
        seek(wrong).await.problem(400);
    }
    operator.post("/groups/nobody/seek", r#"{"to":"latest"}"#).await.problem(404);
}

#[tokio::test]
async fn who_is_connected_is_seen_and_narrowed_down() {
    let site = Site::start().await;
    let _members = (refuser(&site, "refuser"), refuser(&site, "second"));
    let operator = site.operator();
    let connections =
        async |query: &str| operator.get(&format!("/connections{query}")).await.json(200)["connections"].clone();
    let both = eventually("both members are there", SOON, || async {
        let all = connections("?queue=DB").await;
        (all.as_array().unwrap().len() == 2).then_some(all)
    })
    .await;
    assert_eq!((&both[0]["transport"], &both[0]["subscriptions"][0]["filter"]), (&json!("member"), &json!("DB/*")));
    let narrowed = connections("?group=second").await;
    assert_eq!(narrowed.as_array().unwrap().len(), 1);
    assert_eq!(narrowed[0]["subscriptions"][0]["group"], "second");
    let node = both[0]["node"].as_str().unwrap();
    assert_eq!(connections(&format!("?node={node}&limit=1")).await.as_array().unwrap().len(), 1);
    for query in ["?node=elsewhere", "?user=alice", "?queue=ORDERS", "?group=nobody"] {
        assert_eq!(connections(query).await, json!([]), "{query}");
    }
    operator.get("/connections?role=x").await.problem(400);
}

#[tokio::test]
async fn a_full_queue_is_told_to_publishers_and_what_is_dropped_to_operators() {
    let site = Site::start().await;
    let (alice, operator) = (site.alice(), site.operator());
    let limit = |overflow: &str| json!({ "max_len": 2, "overflow": overflow }).to_string();
    operator.send(Method::PUT, "/queues/DB", limit("reject")).await.json(201);
    site.bus.declare_group(Group::new("slow", "DB/*".parse().unwrap(), Mode::Keyed)).await.unwrap();
    publish(&site, 2).await;
    let full = alice.post("/events/DB/CREATE?id=e2", "{}").await;
    assert_eq!((full.json(429)["detail"].as_str(), full.header("retry-after")), (Some("the queue is full"), Some("1")));
    assert!(full.json(429)["type"].as_str().unwrap().ends_with("/queue-full"));
    let one =
        |id: &str| json!({ "specversion": "1.0", "id": id, "source": "/", "type": "t", "queue": "DB", "event": "A" });
    let batch = json!([one("e3"), one("e4")]).to_string();
    let full = alice.with("content-type", "application/cloudevents-batch+json").post("/events", batch).await;
    assert_eq!((full.status.as_u16(), full.header("retry-after")), (429, Some("1")), "a batch as a whole");
    operator.send(Method::PUT, "/queues/DB", limit("drop_oldest")).await.json(200);
    for id in ["e2", "e3"] {
        alice.post(&format!("/events/DB/CREATE?id={id}"), "{}").await.json(201);
    }
    let slow = operator.get("/groups/slow").await.json(200);
    assert_eq!((&slow["lost"], &slow["lost_ranges"]), (&json!(2), &json!([{ "partition": 0, "from": 1, "to": 3 }])));
    assert!(slow["abandoned"].is_null());
    let queue = operator.get("/queues/DB").await.json(200);
    assert_eq!(queue["events"], 2);
    assert!(queue["bytes"].as_u64().unwrap() > 0 && queue["bytes"] == queue["partitions"][0]["bytes"], "{queue}");
}
