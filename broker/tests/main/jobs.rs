//! Jobs with nothing but an HTTP client: made, worked on in any language, watched, stopped.

use std::{collections::BTreeSet, time::Duration};

use bus::{Group, Mode};
use http::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::site::{Client, SOON, Site};

/// Somebody who makes jobs.
fn maker(site: &Site) -> Client {
    site.client("alice", &["jobs:write", "jobs:read"])
}

/// Somebody who works on tasks of the kind `count`.
fn worker(site: &Site) -> Client {
    site.client("workers/1", &["events:consume:jobs.count.*"])
}

async fn create(site: &Site, job: Value) -> String {
    maker(site).post("/jobs", job.to_string()).await.json(201)["id"].as_str().unwrap().to_owned()
}

async fn get(site: &Site, id: &str) -> Value {
    maker(site).get(&format!("/jobs/{id}")).await.json(200)
}

async fn comes_to(site: &Site, id: &str, state: &str) -> Value {
    eventually(&format!("the job is {state}"), SOON, || async {
        Some(get(site, id).await).filter(|job| job["state"] == state)
    })
    .await
}

async fn claim(worker: &Client, asked: Value) -> Vec<Value> {
    let claimed = worker.post("/jobs/claim", asked.to_string()).await.json(200);
    claimed["tasks"].as_array().unwrap().clone()
}

/// The next task.
async fn next(worker: &Client) -> Value {
    eventually("there is a task", SOON, || async {
        claim(worker, json!({"kinds": ["count"], "wait": "5s", "worker": "w1"})).await.into_iter().next()
    })
    .await
}

async fn settle(worker: &Client, task: &Value, verb: &str, said: Value) -> u16 {
    let path = format!("/deliveries/{}/{verb}", task["token"].as_str().unwrap());
    worker.post(&path, said.to_string()).await.status.as_u16()
}

async fn extend(worker: &Client, task: &Value, said: Value) -> Value {
    let path = format!("/deliveries/{}/extend", task["token"].as_str().unwrap());
    worker.post(&path, said.to_string()).await.json(200)
}

/// So that a test needn't wait half a minute for a worker's death to be noticed.
async fn short_leases(site: &Site) {
    let mut group = Group::new("jobs.count.normal", "JOBS/COUNT".parse().unwrap(), Mode::Parallel);
    group.lease = Duration::from_secs(1);
    site.bus.declare_group(group).await.unwrap();
}

#[tokio::test]
async fn a_task_goes_through_every_state() {
    for (site, _server) in Site::every().await {
        let worker = worker(&site);
        let later = create(&site, json!({"kind": "count", "payload": 1, "delay": "1h"})).await;
        assert_eq!(get(&site, &later).await["state"], "scheduled");

        let id = create(&site, json!({"kind": "count", "payload": {"to": 3}, "retry": {"every": "0s", "attempts": 2}}))
            .await;
        assert_eq!(get(&site, &id).await["state"], "pending");
        let task = next(&worker).await;
        assert_eq!((&task["job"], &task["payload"], &task["attempt"]), (&json!(id), &json!({"to": 3}), &json!(1)));
        assert_eq!((&task["owner"], &task["kind"], &task["task"]), (&json!("alice"), &json!("count"), &json!("count")));
        assert_eq!(get(&site, &id).await["state"], "running");
        // It says that it lives, and how far it is.
        assert_eq!(extend(&worker, &task, json!({"progress": 0.5, "note": "two"})).await, json!({"ending": null}));
        let running = get(&site, &id).await;
        assert_eq!((&running["progress"], &running["tasks"][0]["note"]), (&json!(0.5), &json!("two")));
        assert_eq!(running["tasks"][0]["worker"], "w1");
        // It fails once, by a delay of its own, then is done.
        assert_eq!(settle(&worker, &task, "nack", json!({"reason": "busy", "delay": "1h"})).await, 204);
        assert_eq!(get(&site, &id).await["state"], "retrying");
        maker(&site).post(&format!("/jobs/{id}/stop"), "").await.json(200);
        assert_eq!(get(&site, &id).await["state"], "stopped");
        maker(&site).post(&format!("/jobs/{id}/resume"), "").await.json(200);
        let task = next(&worker).await;
        assert_eq!(task["attempt"], 2);
        assert_eq!(settle(&worker, &task, "ack", json!({"result": {"counted": 3}})).await, 204);
        let done = get(&site, &id).await;
        assert_eq!((&done["state"], &done["tasks"][0]["result"]), (&json!("completed"), &json!({"counted": 3})));
        let attempts = done["tasks"][0]["attempts"].as_array().unwrap();
        let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect();
        assert_eq!((outcomes, &attempts[0]["error"]), (vec!["failed", "completed"], &json!("busy")));
        // Nothing can end it again.
        let path = format!("/deliveries/{}/ack", task["token"].as_str().unwrap());
        assert_eq!(worker.post(&path, "").await.json(409)["type"], "https://turnpike.dev/problems/lease-lost");
        maker(&site).post(&format!("/jobs/{id}/stop"), "").await.problem(409);

        let cancelled = maker(&site).send(Method::DELETE, &format!("/jobs/{later}"), "").await.json(200);
        assert_eq!(cancelled, json!({"id": later, "state": "cancelled"}));
        let failed = create(&site, json!({"kind": "count"})).await;
        let task = next(&worker).await;
        assert_eq!(settle(&worker, &task, "dead", json!({"reason": "can't count"})).await, 204);
        assert_eq!(get(&site, &failed).await["tasks"][0]["error"], "can't count");
        assert_eq!(get(&site, &failed).await["state"], "failed");
    }
}

#[tokio::test]
async fn three_workers_share_and_what_one_died_of_the_others_finish() {
    for (site, _server) in Site::every().await {
        short_leases(&site).await;
        let mut jobs = BTreeSet::new();
        for n in 0..9 {
            jobs.insert(create(&site, json!({"kind": "count", "payload": n})).await);
        }
        // One takes a task, and is never heard of again.
        let dead = claim(&worker(&site), json!({"kinds": ["count"], "worker": "dead"})).await.remove(0);
        let workers = ["w1", "w2"].map(|name| {
            let (worker, asked) = (worker(&site), json!({"kinds": ["count"], "wait": "1s", "worker": name}));
            tokio::spawn(async move {
                loop {
                    for task in claim(&worker, asked.clone()).await {
                        let result = json!({"result": task["payload"].as_u64().unwrap() * 2});
                        assert_eq!(settle(&worker, &task, "ack", result).await, 204);
                    }
                }
            })
        });
        for id in &jobs {
            comes_to(&site, id, "completed").await;
        }
        workers.iter().for_each(tokio::task::JoinHandle::abort);
        let lost = get(&site, dead["job"].as_str().unwrap()).await;
        let attempts = lost["tasks"][0]["attempts"].as_array().unwrap();
        let told: Vec<_> = attempts.iter().map(|one| (one["worker"].as_str(), one["outcome"].as_str())).collect();
        assert_eq!(told[0], (Some("dead"), Some("lost")));
        assert_eq!(told[1].1, Some("completed"));
        assert_eq!(lost["tasks"][0]["result"], dead["payload"].as_u64().unwrap() * 2);
        // It comes back to life too late.
        assert_eq!(settle(&worker(&site), &dead, "ack", json!({"result": "mine"})).await, 409);
        eventually("nothing is left on the bus", SOON, || async {
            site.bus.groups().await.unwrap().iter().all(|group| group.lag == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_task_sees_the_results_of_those_before_it() {
    let site = Site::start().await;
    let worker = worker(&site);
    let tasks = json!([
        {"name": "one", "kind": "count", "payload": 1},
        {"name": "two", "kind": "count", "payload": 2},
        {"name": "sum", "kind": "count", "after": ["one", "two"]},
    ]);
    let id = create(&site, json!({"name": "adding", "tasks": tasks})).await;
    let first = claim(&worker, json!({"kinds": ["count"], "max": 3, "wait": "20s"})).await;
    assert_eq!(first.len(), 2);
    for task in &first {
        settle(&worker, task, "ack", json!({"result": task["payload"]})).await;
    }
    let last = next(&worker).await;
    assert_eq!((&last["task"], &last["results"]), (&json!("sum"), &json!({"one": 1, "two": 2})));
    assert_eq!(get(&site, &id).await["state"], "running");
    settle(&worker, &last, "ack", json!({"result": 3})).await;
    assert_eq!(get(&site, &id).await["state"], "completed");
}

#[tokio::test]
async fn a_worker_is_told_to_stop_and_that_it_was_cancelled() {
    let site = Site::start().await;
    let worker = worker(&site);
    let id = create(&site, json!({"kind": "count"})).await;
    let task = next(&worker).await;
    maker(&site).post(&format!("/jobs/{id}/stop"), "").await.json(200);
    assert_eq!(extend(&worker, &task, json!({})).await, json!({"ending": "stop"}));
    assert_eq!(settle(&worker, &task, "release", json!({})).await, 204);
    let stopped = get(&site, &id).await;
    assert_eq!((&stopped["state"], &stopped["tasks"][0]["attempts"]), (&json!("stopped"), &json!([])));

    maker(&site).post(&format!("/jobs/{id}/resume?task=count"), "").await.json(200);
    let task = next(&worker).await;
    assert_eq!(task["attempt"], 1, "what was given back is none");
    maker(&site).send(Method::DELETE, &format!("/jobs/{id}"), "").await.json(200);
    assert_eq!(extend(&worker, &task, json!({"progress": 0.9})).await, json!({"ending": "cancel"}));
    assert_eq!(settle(&worker, &task, "ack", json!({})).await, 409, "what it says doesn't count any more");
    assert_eq!(get(&site, &id).await["state"], "cancelled");
}

#[tokio::test]
async fn a_job_is_made_once() {
    let site = Site::start().await;
    let job = json!({"kind": "count", "unique": "today"}).to_string();
    let first = maker(&site).post("/jobs", job.clone()).await;
    let location = first.header("location").unwrap().to_owned();
    let id = first.json(201)["id"].as_str().unwrap().to_owned();
    assert_eq!(location, format!("/jobs/{id}"));
    assert_eq!(maker(&site).post("/jobs", job).await.json(200), json!({"id": id, "existing": true}));
    let named = json!({"kind": "count", "id": "0193c7a1-0000-7000-8000-000000000001"}).to_string();
    maker(&site).post("/jobs", named.clone()).await.json(201);
    maker(&site).post("/jobs", named).await.json(200);
}

#[tokio::test]
async fn jobs_are_listed_in_pages_by_state() {
    let site = Site::start().await;
    let mut made = Vec::new();
    for n in 0..5 {
        let delay = if n % 2 == 0 { "1h" } else { "0s" };
        made.push(create(&site, json!({"kind": "count", "delay": delay})).await);
    }
    let maker = maker(&site);
    let ids = |page: &Value| -> Vec<String> {
        page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = maker.get("/jobs?limit=3").await.json(200);
    let second = maker.get(&format!("/jobs?limit=3&after={}", first["next"].as_str().unwrap())).await.json(200);
    let all: Vec<String> = [ids(&first), ids(&second)].concat();
    assert_eq!(all, made.iter().rev().cloned().collect::<Vec<_>>(), "newest first");
    assert!(second["next"].is_null());
    assert_eq!(ids(&maker.get("/jobs?state=scheduled").await.json(200)).len(), 3);
    assert_eq!(ids(&maker.get("/jobs?kind=other").await.json(200)).len(), 0);
    for path in ["/jobs?state=gone", "/jobs?after=x", "/jobs?limit=0", "/jobs?colour=red"] {
        maker.get(path).await.problem(400);
    }
}

#[tokio::test]
async fn schedules_are_set_switched_and_removed() {
    let site = Site::start().await;
    let maker = maker(&site);
    let made = json!({"kind": "count", "payload": 7, "cron": "30 3 * * *", "name": "nightly"}).to_string();
    let answer = maker.post("/jobs", made).await;
    assert_eq!(answer.header("location"), Some("/jobs/schedules/nightly"));
    let set = answer.json(201);
    assert_eq!((&set["cron"], &set["payload"], &set["enabled"]), (&json!("30 3 * * *"), &json!(7), &json!(true)));
    assert!(set["next"].as_str().unwrap().contains("T03:30:00"), "{set}");
    let changed = json!({"kind": "count", "cron": "0 * * * *", "missed": {"all": {"most": 10}}, "priority": "low"});
    let changed = maker.send(Method::PUT, "/jobs/schedules/nightly", changed.to_string()).await.json(200);
    assert_eq!((&changed["priority"], &changed["missed"]), (&json!("low"), &json!({"all": {"most": 10}})));
    let off = maker.post("/jobs/schedules/nightly/disable", "").await.json(200);
    assert_eq!((&off["enabled"], &off["next"]), (&json!(false), &Value::Null));
    maker.post("/jobs/schedules/nightly/enable", "").await.json(200);
    let page = maker.get("/jobs/schedules").await.json(200);
    assert_eq!(page["schedules"].as_array().unwrap().len(), 1);
    assert_eq!(maker.send(Method::DELETE, "/jobs/schedules/nightly", "").await.status, 204);
    maker.get("/jobs/schedules/nightly").await.problem(404);
    let wrong = json!({"kind": "count", "cron": "every day"}).to_string();
    // Somebody else's is out of reach; one's own is not.
    let yearly = json!({"kind": "count", "cron": "0 0 1 1 *"}).to_string();
    maker.send(Method::PUT, "/jobs/schedules/yearly", yearly.clone()).await.json(201);
    let mallory = site.client("mallory", &["jobs:write"]);
    for (method, path, body) in [
        (Method::PUT, "/jobs/schedules/yearly", &*yearly),
        (Method::DELETE, "/jobs/schedules/yearly", ""),
        (Method::POST, "/jobs/schedules/yearly/disable", ""),
        (Method::GET, "/jobs/schedules/yearly", ""),
        (Method::DELETE, "/jobs/schedules/none", ""),
    ] {
        mallory.send(method, path, body.to_owned()).await.problem(403);
    }
    mallory.send(Method::PUT, "/jobs/schedules/mine", yearly).await.json(201);
    assert_eq!(mallory.get("/jobs/schedules/mine").await.json(200)["owner"], "mallory");
    assert_eq!(mallory.send(Method::DELETE, "/jobs/schedules/mine", "").await.status, 204);
    assert!(maker.send(Method::PUT, "/jobs/schedules/x", wrong).await.problem(400).starts_with("expression: "));
}

#[tokio::test]
async fn a_schedule_fires_by_itself() {
    let site = Site::start().await;
    let every_second = json!({"kind": "count", "payload": "tick", "cron": "* * * * * *"}).to_string();
    maker(&site).post("/jobs", every_second).await.json(201);
    let task = next(&worker(&site)).await;
    assert_eq!((&task["payload"], &task["name"]), (&json!("tick"), &json!("count")));
    let job = get(&site, task["job"].as_str().unwrap()).await;
    assert_eq!((&job["cron"], &job["owner"]), (&json!("count"), &json!("alice")));
}

#[tokio::test]
async fn an_event_makes_one_job() {
    let source = json!({"filter": "DEVICES/*", "kind": "count"});
    let site = Site::making_jobs(serde_json::from_value(json!([source])).unwrap()).await;
    for id in ["one", "two", "one"] {
        let path = format!("/events/DEVICES/READ?id={id}&subject=devices/7");
        let status = site.alice().post(&path, r#"{"celsius": 21}"#).await.status.as_u16();
        assert!(matches!(status, 200 | 201), "{status}");
    }
    let worker = worker(&site);
    let mut made = BTreeSet::new();
    for _ in 0..2 {
        let task = next(&worker).await;
        assert_eq!(task["payload"]["data"], json!({"celsius": 21}));
        assert_eq!((&task["payload"]["subject"], &task["owner"]), (&json!("devices/7"), &json!("alice")));
        made.insert(task["payload"]["id"].as_str().unwrap().to_owned());
        assert_eq!(settle(&worker, &task, "ack", json!({})).await, 204);
    }
    assert_eq!(made, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    // The same events again, as after a seek, make no more.
    site.operator().post("/groups/job-source.count/seek", json!({"to": "earliest"}).to_string()).await.json(200);
    eventually("they were taken again", SOON, || async {
        let group = site.operator().get("/groups/job-source.count").await.json(200);
        (group["lag"] == 0).then_some(())
    })
    .await;
    assert_eq!(maker(&site).get("/jobs").await.json(200)["jobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn who_may_not_is_refused() {
    let site = Site::start().await;
    let id = create(&site, json!({"kind": "count"})).await;
    let stranger = site.client("bob", &["jobs:read:all", "events:consume:jobs.other.*", "events:read:*/*"]);
    stranger.post("/jobs", json!({"kind": "count"}).to_string()).await.problem(403);
    stranger.get(&format!("/jobs/{id}")).await.problem(403);
    stranger.get("/jobs/0193c7a1-0000-7000-8000-000000000001").await.problem(403);
    stranger.get("/jobs").await.problem(403);
    stranger.get("/jobs?owner=alice").await.problem(403);
    assert_eq!(stranger.get("/jobs?owner=bob").await.json(200)["jobs"], json!([]));
    stranger.send(Method::DELETE, &format!("/jobs/{id}"), "").await.problem(403);
    stranger.get("/jobs/schedules").await.problem(403);
    stranger.post("/jobs/claim", json!({"kinds": ["count"]}).to_string()).await.problem(403);
    site.anonymous().get("/jobs").await.problem(401);
    // Whoever made one may ask for it.
    site.client("alice", &[]).get(&format!("/jobs/{id}")).await.json(200);
    maker(&site).get("/jobs/0193c7a1-0000-7000-8000-000000000001").await.problem(404);
    maker(&site).get("/jobs/x").await.problem(400);
    // Who makes jobs changes none that it may not see: nor is it told which there are.
    let mallory = site.client("mallory", &["jobs:write"]);
    for job in [&*id, "0193c7a1-0000-7000-8000-000000000001"] {
        mallory.send(Method::DELETE, &format!("/jobs/{job}"), "").await.problem(403);
        mallory.post(&format!("/jobs/{job}/stop"), "").await.problem(403);
        mallory.post(&format!("/jobs/{job}/resume?task=count"), "").await.problem(403);
    }
    let own = mallory.post("/jobs", json!({"kind": "count", "delay": "1h"}).to_string()).await.json(201);
    mallory.send(Method::DELETE, &format!("/jobs/{}", own["id"].as_str().unwrap()), "").await.json(200);
    site.operator().post(&format!("/jobs/{id}/stop"), "").await.json(200);
    site.operator().post(&format!("/jobs/{id}/resume"), "").await.json(200);

    // Tasks are claimed as tasks alone, and a task of another kind isn't settled by a token that was made up.
    let worker = worker(&site);
    let detail = worker.post("/groups/jobs.count.normal/claim", "").await.problem(403);
    assert!(detail.contains("/jobs/claim"), "{detail}");
    let task = next(&worker).await;
    let token = task["token"].as_str().unwrap();
    let other = token.replace("jobs.count.", "jobs.other.");
    stranger.post(&format!("/deliveries/{token}/ack"), "").await.problem(403);
    stranger.post(&format!("/deliveries/{other}/ack"), "").await.problem(409);
    let event = token.rsplit_once(':').unwrap().0;
    worker.post(&format!("/deliveries/{event}/ack"), "").await.problem(403);
    assert_eq!(get(&site, &id).await["state"], "running");
    let large = json!({"result": "x".repeat(300 * 1024)});
    assert_eq!(settle(&worker, &task, "ack", large).await, 400);
    assert_eq!(settle(&worker, &task, "defer", json!({"delay": "1s"})).await, 400);
    assert_eq!(settle(&worker, &task, "ack", json!({})).await, 204);
    for (asked, field) in [
        (json!({"kinds": []}), "kinds: "),
        (json!({"kinds": ["count"], "max": 17}), "max: "),
        (json!({"kinds": ["count"], "wait": "61s"}), "wait: "),
        (json!({"kinds": ["count"], "worker": "two words"}), "worker: "),
    ] {
        let detail = worker.post("/jobs/claim", asked.to_string()).await.problem(400);
        assert!(detail.starts_with(field), "{asked}: {detail}");
    }
}

#[tokio::test]
async fn a_worker_that_hangs_up_while_it_waits_takes_no_task_along() {
    let site = Site::start().await;
    let worker = worker(&site);
    let waiting = worker.through(site.address);
    let waiting = tokio::spawn(async move { claim(&waiting, json!({"kinds": ["count"], "wait": "60s"})).await });
    eventually("it waits", SOON, || async { (site.bus.roster().here().len() == 1).then_some(()) }).await;
    waiting.abort();
    eventually("it is noticed", SOON, || async { site.bus.roster().here().is_empty().then_some(()) }).await;
    create(&site, json!({"kind": "count"})).await;
    assert_eq!(next(&worker).await["attempt"], 1);
}
