//! Working for a group call by call, with nothing but an HTTP client.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::site::{Client, SOON, Site};

const SCOPES: [&str; 3] = ["events:read:DB/*", "events:write:DB/*", "events:consume:billing"];

/// A member of the group `billing`, which is declared so.
async fn member(site: &Site, declared: Value) -> Client {
    let member = site.client("billing/1", &SCOPES);
    member.send(Method::PUT, "/groups/billing", declared.to_string()).await.json(200);
    member
}

async fn publish(site: &Site, ids: std::ops::Range<u32>) {
    for id in ids {
        site.alice().post(&format!("/events/DB/CREATE?id=e{id}&key=k{id}"), format!("{{\"n\":{id}}}")).await.json(201);
    }
}

async fn claim(member: &Client, asked: Value) -> Vec<Value> {
    let claimed = member.post("/groups/billing/claim", asked.to_string()).await.json(200);
    claimed["deliveries"].as_array().unwrap().clone()
}

/// Claims until there is something.
async fn claim_soon(member: &Client) -> Value {
    eventually("there is something to claim", SOON, || async {
        claim(member, json!({"max": 1})).await.into_iter().next()
    })
    .await
}

async fn settle(member: &Client, delivery: &Value, verb: &str, said: &str) -> u16 {
    let path = format!("/deliveries/{}/{verb}", delivery["token"].as_str().unwrap());
    member.post(&path, said.to_owned()).await.status.as_u16()
}

fn ids(deliveries: &[Value]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery["event"]["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn events_are_claimed_and_settled_by_their_tokens() {
    for (site, _server) in Site::every().await {
        let member = member(&site, json!({"filter": "DB/*"})).await;
        assert!(claim(&member, json!({})).await.is_empty());
        publish(&site, 0..5).await;
        let first = claim(&member, json!({"max": 3})).await;
        assert_eq!(ids(&first), ["e0", "e1", "e2"]);
        assert_eq!((&first[0]["attempt"], &first[0]["event"]["data"]), (&json!(1), &json!({"n": 0})));
        assert!(first[0]["lease_until"].as_str() > first[0]["first_delivered"].as_str(), "{}", first[0]);
        assert_eq!(settle(&member, &first[0], "extend", "").await, 204);
        assert_eq!(settle(&member, &first[0], "ack", "").await, 204);
        // An answer that got lost is asked for again: whoever settled it, it is settled.
        let stale = member.post(&format!("/deliveries/{}/ack", first[0]["token"].as_str().unwrap()), "").await;
        assert_eq!(stale.problem(409), "the lease is lost");
        assert_eq!(stale.json(409)["type"], "https://turnpike.dev/problems/lease-lost");
        // What is released comes again and is no attempt; what is nacked is one.
        assert_eq!(settle(&member, &first[1], "release", "").await, 204);
        assert_eq!(settle(&member, &first[2], "nack", r#"{"delay": "0s", "reason": "busy"}"#).await, 204);
        let mut again = Vec::new();
        while again.len() < 4 {
            again.push(claim_soon(&member).await);
        }
        again.sort_by_key(|delivery| delivery["event"]["id"].as_str().unwrap().to_owned());
        assert_eq!(ids(&again), ["e1", "e2", "e3", "e4"]);
        let attempts: Vec<_> = again.iter().map(|delivery| delivery["attempt"].as_u64().unwrap()).collect();
        assert_eq!(attempts, [1, 2, 1, 1]);
        assert_eq!(settle(&member, &again[0], "dead", r#"{"reason": "unreadable"}"#).await, 204);
        let letters = site.operator().get("/groups/billing/dead-letters").await.json(200);
        assert_eq!(letters["dead_letters"][0]["error"], "unreadable");
    }
}

#[tokio::test]
async fn a_batch_is_settled_with_an_outcome_each() {
    for (site, _server) in Site::every().await {
        let member = member(&site, json!({"filter": "DB/CREATE", "mode": "keyed", "lease": "1m"})).await;
        publish(&site, 0..3).await;
        let three = claim(&member, json!({"bytes": 100_000})).await;
        let token = |at: usize| three[at]["token"].as_str().unwrap();
        let said = json!({"settlements": [
            {"token": token(0), "verb": "ack"},
            {"token": token(0), "verb": "ack"},
            {"token": token(1), "verb": "nack", "reason": "busy"},
            {"token": token(2), "verb": "forget"},
            {"token": token(2).replace("billing", "logger"), "verb": "ack"},
            {"verb": "ack"},
        ]});
        let answer = member.post("/groups/billing/settle", said.to_string()).await.json(200);
        let outcomes = answer["outcomes"].as_array().unwrap();
        let codes: Vec<_> = outcomes.iter().map(|outcome| outcome["error"]["code"].as_str()).collect();
        assert_eq!(codes, [None, Some("lease-lost"), None, Some("invalid"), Some("invalid"), Some("invalid")]);
        assert_eq!(outcomes[0]["token"], token(0));
        // What was no settlement took none of the others down, and is still leased.
        assert_eq!(settle(&member, &three[2], "ack", "{}").await, 204);
    }
}

#[tokio::test]
async fn a_lease_that_ended_is_somebody_elses() {
    for (site, _server) in Site::every().await {
        let member = member(&site, json!({"filter": "DB/*", "lease": "1s"})).await;
        publish(&site, 0..1).await;
        let first = claim_soon(&member).await;
        let second = claim_soon(&member).await;
        assert_eq!(second["attempt"], 2);
        assert_ne!(first["token"], second["token"]);
        for verb in ["ack", "extend", "release"] {
            assert_eq!(settle(&member, &first, verb, "").await, 409, "{verb}");
        }
        assert_eq!(settle(&member, &second, "ack", "").await, 204);
    }
}

#[tokio::test]
async fn a_claim_waits_and_who_hangs_up_takes_nothing_along() {
    for (site, _server) in Site::every().await {
        let member = member(&site, json!({"filter": "DB/*"})).await;
        let waits = || async {
            eventually("it waits", SOON, || async { (site.bus.roster().here().len() == 1).then_some(()) }).await;
        };
        let wait = |member: Client| tokio::spawn(async move { claim(&member, json!({"wait": "60s"})).await });
        let waiting = wait(member.through(site.address));
        waits().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        eventually("it is noticed", SOON, || async { site.bus.roster().here().is_empty().then_some(()) }).await;

        let waiting = wait(member.clone());
        waits().await;
        publish(&site, 0..1).await;
        let delivered = waiting.await.unwrap();
        assert_eq!((ids(&delivered), &delivered[0]["attempt"]), (vec!["e0"], &json!(1)));
        assert_eq!(settle(&member, &delivered[0], "ack", "").await, 204);
        assert!(claim(&member, json!({"wait": "50ms"})).await.is_empty());
    }
}

#[tokio::test]
async fn a_waiting_claim_is_answered_when_the_node_drains() {
    let site = Site::start().await;
    let member = member(&site, json!({"filter": "DB/*"})).await;
    let waiting = tokio::spawn(async move { claim(&member, json!({"wait": "60s"})).await });
    eventually("it waits", SOON, || async { (site.bus.roster().here().len() == 1).then_some(()) }).await;
    site.shutdown.begin(Duration::from_secs(30));
    assert!(waiting.await.unwrap().is_empty());
}

#[tokio::test]
async fn an_exclusive_group_is_claimed_by_one_member() {
    let site = Site::start().await;
    let member = member(&site, json!({"filter": "DB/*", "mode": "exclusive", "start": "earliest"})).await;
    publish(&site, 0..2).await;
    let first = claim(&member, json!({"max": 1, "member": "one"})).await;
    assert_eq!(ids(&first), ["e0"]);
    assert!(claim(&member, json!({"member": "other"})).await.is_empty());
    assert!(claim(&member, json!({})).await.is_empty(), "without a name it is somebody else");
    // Whatever its name: two processes may go by the same one.
    assert!(claim(&member, json!({"member": "one"})).await.is_empty());
    let token = first[0]["token"].as_str().unwrap();
    assert!(member.post(&format!("/deliveries/{token}/ack"), "").await.status.is_success());
    assert_eq!(ids(&claim(&member, json!({"member": "one"})).await), ["e1"]);
}

#[tokio::test]
async fn what_a_member_may_not_is_refused_by_name() {
    let site = Site::start().await;
    let member = member(&site, json!({"filter": "DB/*"})).await;
    for (path, body, field) in [
        ("/groups/billing/claim", json!({"max": 0}), "max: "),
        ("/groups/billing/claim", json!({"max": 1001}), "max: "),
        ("/groups/billing/claim", json!({"wait": "61s"}), "wait: "),
        ("/groups/billing/claim", json!({"member": "two words"}), "member: "),
        ("/groups/billing/claim", json!({"filter": "DB/*"}), "the body: unknown field `filter`"),
        ("/groups/billing/claim?max=1", json!({}), "max: "),
        ("/groups/billing/settle", json!({"settlements": []}), "settlements: "),
        ("/deliveries/billing:1/ack", json!({}), "token: "),
    ] {
        let detail = member.post(path, body.to_string()).await.problem(400);
        assert!(detail.starts_with(field), "{path} {body}: {detail}");
    }
    for (body, field) in [
        (json!({}), "the body: missing field `filter`"),
        (json!({"filter": "DB"}), "filter: "),
        (json!({"filter": "DB/*", "lease": "1ms"}), "lease: "),
        (json!({"filter": "DB/*", "mode": "any"}), "the body: unknown variant"),
        (json!({"filter": "DB/*", "on_dead": "block"}), "on_dead: "),
    ] {
        let detail = member.send(Method::PUT, "/groups/billing", body.to_string()).await.problem(400);
        assert!(detail.starts_with(field), "{body}: {detail}");
    }
    // A group of its own, on what it may read; and nobody else's.
    let wide = json!({"filter": "ORDERS/*"}).to_string();
    member.send(Method::PUT, "/groups/billing", wide.clone()).await.problem(403);
    member.send(Method::PUT, "/groups/logger", wide).await.problem(403);
    member.post("/groups/logger/claim", "").await.problem(403);
    member.post("/groups/logger/settle", "").await.problem(403);
    member.post("/deliveries/logger:0.0.1.0000000000000001/ack", "").await.problem(403);
    site.anonymous().post("/groups/billing/claim", "").await.problem(401);
    member.post("/deliveries/billing:0.0.1.0000000000000001/forget", "").await.problem(404);
    member.post("/deliveries/billing:0.0.1.0000000000000001/ack", "").await.problem(409);
    let other = site.client("x", &["events:consume:nothing"]);
    other.post("/groups/nothing/claim", "").await.problem(404);
}
