//! Publishing: every form, as whom, and what is refused.

use broker::Settings;
use events::Data;
use serde_json::{Value, json};
use testkit::{Fault, FaultProxy, Way, eventually};

use crate::site::{Client, SOON, Site};

const CLOUDEVENT: &str = r#"{"specversion":"1.0","id":"e1","source":"/forged","type":"t","queue":"DB","event":"CREATE",
    "subject":"products/42","owner":"somebody else","sequence":"7","cursor":"x","data":{"name":"Teapot"}}"#;

fn structured(client: &Client) -> Client {
    client.with("content-type", "application/cloudevents+json")
}

fn batched(client: &Client) -> Client {
    client.with("content-type", "application/cloudevents-batch+json")
}

#[tokio::test]
async fn an_event_of_each_form_is_recorded_as_its_publishers() {
    let site = Site::start().await;
    let alice = site.alice();
    let binary = alice
        .with("ce-specversion", "1.0")
        .with("ce-id", "e2")
        .with("ce-queue", "DB")
        .with("ce-event", "CREATE")
        .with("ce-subject", "products%2F42%20%C3%A4")
        .with("ce-source", "/forged")
        .with("ce-priority", "7");
    let answers = [
        structured(&alice).post("/events", CLOUDEVENT).await,
        binary.post("/events", r#"{"name":"Teapot"}"#).await,
        alice.post("/events", r#"{"queue":"DB","event":"CREATE","payload":{"name":"Teapot"}}"#).await,
        alice.post("/events/DB/CREATE?id=e4&subject=products/42&key=k", r#"{"name":"Teapot"}"#).await,
    ];
    for answer in &answers {
        let receipt = answer.json(201);
        assert_eq!((&receipt["confirm"], &receipt["requested"]), (&json!("stored"), &json!("stored")));
        assert!(receipt["degraded"] == false && receipt["duplicate"].is_null(), "{receipt}");
        let location = format!("/events/{}", receipt["cursor"].as_str().unwrap());
        assert_eq!(answer.header("location"), Some(location.as_str()));
    }
    let log = site.log("DB").await;
    assert_eq!(log.len(), 4);
    for logged in &log {
        assert_eq!(
            (logged.envelope.source.as_str(), logged.envelope.owner.as_deref()),
            ("/clients/alice", Some("alice"))
        );
        assert_eq!(logged.envelope.json(), Some(&json!({"name": "Teapot"})));
    }
    let (binary, bare) = (&log[1].envelope, &log[3].envelope);
    assert_eq!((binary.subject.as_deref(), binary.priority), (Some("products/42 ä"), 7));
    assert_eq!((bare.id.as_str(), bare.subject.as_deref(), bare.key()), ("e4", Some("products/42"), "k"));
}

#[tokio::test]
async fn what_was_published_is_found_by_its_cursor() {
    let site = Site::start().await;
    let alice = site.alice();
    let cursor = structured(&alice).post("/events", CLOUDEVENT).await.json(201)["cursor"].as_str().unwrap().to_owned();
    let answer = alice.get(&format!("/events/{cursor}")).await;
    assert_eq!(answer.header("content-type"), Some("application/cloudevents+json"));
    let event = answer.json(200);
    assert_eq!(event["id"], "e1");
    assert_eq!(event["cursor"], cursor.as_str());
    assert_eq!(event["data"], json!({"name": "Teapot"}));

    // Its publisher may see it without any scope to read; others may not.
    site.client("alice", &[]).get(&format!("/events/{cursor}")).await.json(200);
    site.client("bob", &[]).get(&format!("/events/{cursor}")).await.problem(403);
    site.client("bob", &["events:read:own:DB/*"]).get(&format!("/events/{cursor}/status")).await.problem(403);
    site.client("bob", &["events:read:DB/CREATE"]).get(&format!("/events/{cursor}/status")).await.json(200);
    site.anonymous().get(&format!("/events/{cursor}")).await.problem(401);
}

#[tokio::test]
async fn a_place_that_is_no_events_is_refused() {
    let site = Site::start().await;
    let alice = site.alice();
    alice.post("/events/DB/CREATE", "{}").await.json(201);
    let other = site.sibling().await;
    let elsewhere =
        other.alice().post("/events/DB/CREATE", "{}").await.json(201)["cursor"].as_str().unwrap().to_owned();
    let nowhere =
        other.alice().post("/events/OTHER/CREATE", "{}").await.json(201)["cursor"].as_str().unwrap().to_owned();
    alice.get(&format!("/events/{elsewhere}/status")).await.problem(410);
    alice.get(&format!("/events/{nowhere}")).await.problem(404);
    for cursor in [&elsewhere, &nowhere] {
        let anonymous = site.anonymous();
        anonymous.get(&format!("/events/{cursor}")).await.problem(401);
        anonymous.get(&format!("/events/{cursor}/status")).await.problem(401);
    }
    for id in ["e1", "0192f0c1-2f6e-7c3e-8b1a-3e1d2c3b4a59", "%20", "AQ", "%ff"] {
        for path in [format!("/events/{id}"), format!("/events/{id}/status")] {
            alice.get(&path).await.problem(400);
        }
    }
    alice.get("/events/e1?queue=DB&source=/clients/alice").await.problem(404);
    alice.get("/events/e1?source=/clients/alice").await.problem(400);
}

#[tokio::test]
async fn an_id_that_comes_again_is_answered_with_its_first_place() {
    let site = Site::start().await;
    let alice = site.alice();
    let first = alice.post("/events/DB/CREATE?id=once&key=k", "1").await.json(201);
    let again = alice.post("/events/DB/CREATE?id=once&key=k", "1").await.json(200);
    assert_eq!((&again["cursor"], &again["duplicate"], &again["id"]), (&first["cursor"], &json!(true), &json!("once")));
    // Another publisher's id is another id.
    site.client("bob", &["events:write:DB/*"]).post("/events/DB/CREATE?id=once&key=k", "1").await.json(201);
    assert_eq!(site.log("DB").await.len(), 2);
}

#[tokio::test]
async fn data_of_another_media_type_is_kept_as_its_bytes() {
    let site = Site::start().await;
    let alice = site.alice();
    alice.with("content-type", "image/png").post("/events/DB/CREATE", &b"\x89PNG\xff"[..]).await.json(201);
    alice.with("content-type", "application/vnd.shop+json").post("/events/DB/CREATE", "[1]").await.json(201);
    alice.post("/events/DB/CREATE", "").await.json(201);
    let log = site.log("DB").await;
    assert_eq!(log[0].envelope.data, Some(Data::Binary(b"\x89PNG\xff".to_vec())));
    assert_eq!(log[0].envelope.datacontenttype.as_deref(), Some("image/png"));
    assert_eq!(log[1].envelope.data, Some(Data::Json(json!([1]))));
    assert_eq!(log[1].envelope.datacontenttype.as_deref(), Some("application/vnd.shop+json"));
    assert_eq!(log[2].envelope.data, None);
}

#[tokio::test]
async fn a_batch_is_recorded_whole_and_answered_an_event_each() {
    let site = Site::start().await;
    let alice = batched(&site.alice());
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "type": "t", "queue": "DB", "event": "CREATE"});
    let answer = alice.post("/events", json!([event("a"), event("b"), event("a")]).to_string()).await.json(201);
    let ids: Vec<&Value> = answer["events"].as_array().unwrap().iter().map(|event| &event["id"]).collect();
    assert_eq!(ids, ["a", "b", "a"]);
    assert_eq!(answer["events"][2]["duplicate"], true);
    alice.post("/events", json!([event("a"), event("b")]).to_string()).await.json(200);
    assert_eq!(site.log("DB").await.len(), 2);

    let mut wrong = event("d");
    wrong["priority"] = json!(11);
    let detail = alice.post("/events", json!([event("c"), wrong]).to_string()).await.problem(400);
    assert!(detail.starts_with("events[1]: priority: "), "{detail}");
    let later = json!({"specversion": "1.0", "id": "e", "type": "t", "queue": "DB", "event": "CREATE",
        "deliverytime": "2130-01-01T00:00:00Z"});
    let detail = alice.post("/events", json!([event("c"), later]).to_string()).await.problem(400);
    assert!(detail.contains("deliverytime"), "{detail}");
    let elsewhere = json!({"specversion": "1.0", "id": "f", "type": "t", "queue": "ORDERS", "event": "CREATE"});
    let mixed = alice.post("/events", json!([later, elsewhere]).to_string()).await.json(207);
    assert_eq!((&mixed["events"][0]["error"]["status"], &mixed["events"][1]["id"]), (&json!(400), &json!("f")));
    assert_eq!((site.log("DB").await.len(), site.log("ORDERS").await.len()), (2, 1));
}

#[tokio::test]
async fn who_may_not_publish_is_refused_and_nothing_is_recorded() {
    let site = Site::start().await;
    site.anonymous().post("/events/DB/CREATE", "{}").await.problem(401);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let named =
        site.anonymous().with("x-request-id", "r-1").with("traceparent", &format!("00-{trace}-00f067aa0ba902b7-00"));
    let problem = named.post("/events/DB/CREATE", "{}").await.json(401);
    let names = [&problem["instance"], &problem["request_id"], &problem["trace_id"], &problem["type"]];
    assert_eq!(names, ["/events/DB/CREATE", "r-1", trace, "https://turnpike.dev/problems/unauthenticated"]);
    site.anonymous().with("turnpike-principal", "forged").post("/events/DB/CREATE", "{}").await.problem(401);
    let detail = site.client("bob", &["events:write:DB/UPDATE"]).post("/events/DB/CREATE", "{}").await.problem(403);
    assert!(detail.contains("events:write:DB/CREATE"), "{detail}");
    site.client("bob", &["events:write:DB/UPDATE"]).post("/events/DB/UPDATE", "{}").await.json(201);
    for queue in ["SYS", "PRESENCE", "RECEIPT", "ROOMS"] {
        site.alice().post(&format!("/events/{queue}/ANY"), "{}").await.problem(403);
    }
    let events = json!([
        {"specversion": "1.0", "type": "t", "queue": "DB", "event": "UPDATE"},
        {"specversion": "1.0", "type": "t", "queue": "DB", "event": "CREATE"},
    ]);
    let bob = batched(&site.client("bob", &["events:write:DB/UPDATE"]));
    let detail = bob.post("/events", events.to_string()).await.problem(403);
    assert!(detail.starts_with("events[1]: "), "{detail}");
    assert_eq!(site.log("DB").await.len(), 1);
}

#[tokio::test]
async fn data_beyond_its_bound_is_refused_with_the_bound() {
    let site = Site::start().await;
    let alice = site.alice();
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    alice.post("/events/DB/CREATE", text(256 * 1024)).await.json(201);
    let detail = alice.post("/events/DB/CREATE", text(256 * 1024 + 1)).await.problem(413);
    assert!(detail.contains("262144"), "{detail}");
    let event = |bytes| format!(r#"{{"queue":"DB","event":"CREATE","payload":{}}}"#, text(bytes));
    alice.post("/events", event(256 * 1024)).await.json(201);
    let detail = alice.post("/events", event(256 * 1024 + 1)).await.problem(413);
    assert!(detail.contains("256 KiB"), "{detail}");
    alice.post("/events", event(2 << 20)).await.problem(413);
    assert_eq!(site.log("DB").await.len(), 2);
}

#[tokio::test]
async fn the_trace_of_the_request_goes_on_in_the_event() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let site = Site::start().await;
    let alice = site.alice().with("traceparent", TRACE);
    alice.post("/events/DB/CREATE", "{}").await.json(201);
    let event = |traceparent: &str| json!({"specversion": "1.0", "type": "t", "queue": "DB", "event": "CREATE", "traceparent": traceparent});
    structured(&alice).post("/events", event(OWN).to_string()).await.json(201);
    structured(&alice).post("/events", event("nonsense").to_string()).await.json(201);
    let log = site.log("DB").await;
    let trace = |at: usize| log[at].envelope.traceparent.as_deref().unwrap().split('-').nth(1).unwrap().to_owned();
    let id = |traceparent: &str| traceparent.split('-').nth(1).unwrap().to_owned();
    assert_eq!([trace(0), trace(1), trace(2)], [id(TRACE), id(OWN), id(TRACE)]);
}

#[tokio::test]
async fn a_trace_state_that_is_none_costs_the_event_nothing() {
    const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let site = Site::start().await;
    let alice = site.alice();
    let long = format!("a={}", "x".repeat(3000));
    let binary = |parent: &str, state: &str| {
        let alice = alice.with("ce-specversion", "1.0").with("ce-queue", "DB").with("ce-event", "CREATE");
        alice.with("ce-traceparent", parent).with("ce-tracestate", state)
    };
    for state in ["a=1", "nonsense", &long] {
        let event = json!({
            "specversion": "1.0", "type": "t", "queue": "DB", "event": "CREATE", "traceparent": OWN, "tracestate": state,
        });
        structured(&alice).post("/events", event.to_string()).await.json(201);
        binary(OWN, state).post("/events", "{}").await.json(201);
    }
    binary(&long, "a=1").post("/events", "{}").await.json(201);
    let log = site.log("DB").await;
    let traces =
        log.iter().map(|logged| (logged.envelope.traceparent.as_deref(), logged.envelope.tracestate.as_deref()));
    let traces: Vec<_> = traces.collect();
    let (kept, left_out) = ((Some(OWN), Some("a=1")), (Some(OWN), None));
    assert_eq!(traces[..6], [kept, kept, left_out, left_out, left_out, left_out]);
    assert_ne!(traces[6].1, Some("a=1"), "a state belongs to its trace");
}

#[tokio::test]
async fn what_can_t_be_understood_is_refused_by_its_name() {
    let site = Site::start().await;
    let alice = site.alice();
    let event = |member: &str| format!(r#"{{"specversion":"1.0","type":"t","queue":"DB","event":"CREATE",{member}}}"#);
    for (body, named) in [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "cloudevents-batch+json"),
        ("7", "object"),
        (&"[".repeat(100_000), "JSON"),
        (r#"{"queue":"DB"}"#, "event"),
        (r#"{"queue":"db","event":"CREATE"}"#, "queue"),
        (r#"{"queue":"DB","event":"CREATE","colour":"red"}"#, "colour"),
        (r#"{"specversion":"0.3","queue":"DB","event":"CREATE"}"#, "specversion"),
        (&event(r#""id":"a.b""#), "id"),
        (&event(r#""id":"""#), "id"),
        (&event(r#""time":"yesterday""#), "time"),
        (&event(r#""priority":10"#), "priority"),
        (&event(r#""subject":{}"#), "subject"),
        (&event(r#""replyto":"WHERE""#), "replyto"),
        (&event(r#""deliverytime":"2130-01-01T00:00:00Z""#), "deliverytime"),
        (&event(r#""deliverytime":"2026-12-01T00:00:00Z","expirytime":"2026-11-30T00:00:00Z""#), "expirytime"),
        (&event(r#""expectedversion":3"#), "expectedversion"),
        (&event(r#""data_base64":"%""#), "data_base64"),
        (&event(r#""Weird_Name":"x""#), "Weird_Name"),
    ] {
        let detail = alice.post("/events", body.to_owned()).await.problem(400);
        assert!(detail.contains(named), "{body:.60}: {detail}");
    }
    for (path, named) in [
        ("/events/db/CREATE", "queue"),
        ("/events/DB/create", "event"),
        ("/events/DB/%00", "event"),
        ("/events/DB/CREATE?confirm=surely", "confirm"),
        ("/events/DB/CREATE?confirm=delivered:", "confirm"),
        ("/events/DB/CREATE?timeout=61s", "timeout"),
        ("/events/DB/CREATE?timeout=5", "timeout"),
        ("/events/DB/CREATE?reply_to=WHERE", "replyto"),
        ("/events/DB/CREATE?colour=red", "colour"),
        ("/events/DB/CREATE?subject=a&subject=b", "subject"),
        ("/events/DB/CREATE?subject=", "subject"),
        ("/events/DB/CREATE?id=a.b", "id"),
        ("/events/DB/CREATE?allow_degraded=maybe", "allow_degraded"),
        ("/events?subject=a", "subject"),
    ] {
        let detail = alice.post(path, "{}").await.problem(400);
        assert!(detail.contains(named), "{path}: {detail}");
    }
    for (media, body, status) in [
        ("application/x-www-form-urlencoded", "{}", 415),
        ("application/json; charset=utf-16", "{}", 415),
        ("json", "{}", 400),
        ("application/json", "nonsense", 400),
    ] {
        alice.with("content-type", media).post("/events/DB/CREATE", body).await.problem(status);
    }
    alice.with("content-type", "application/cloudevents+xml").post("/events", "<event/>").await.problem(415);
    for batch in ["{}", "[]", "[1]", &format!("[{}]", vec!["{}"; 257].join(","))] {
        batched(&alice).post("/events", batch.to_owned()).await.problem(400);
    }
    let binary = alice.with("ce-specversion", "1.0").with("ce-queue", "DB").with("ce-event", "CREATE");
    for (field, value) in
        [("ce-data", "x"), ("ce-datacontenttype", "a/b"), ("ce-subject", "%ff"), ("ce-priority", "high")]
    {
        let detail = binary.with(field, value).post("/events", "{}").await.problem(400);
        assert!(detail.contains(field.trim_start_matches("ce-")), "{detail}");
    }
    assert!(site.log("DB").await.is_empty());
}

#[tokio::test]
async fn a_publish_whose_answer_is_lost_is_repeated_by_its_id_and_answers_the_first_place() {
    let server = testkit::redis().await;
    let redis = bus::redis::open(&server.url()).await.unwrap();
    let on_redis = Site::on(redis, tempfile::tempdir().unwrap(), Settings::default()).await;
    for site in [Site::start().await, on_redis] {
        let proxy = FaultProxy::start(site.address, 10).await;
        let alice = site.alice().through(proxy.address());
        proxy.set(Way::Back, Fault::Swallow);
        let waiting = {
            let alice = alice.clone();
            tokio::spawn(async move { alice.post("/events/DB/CREATE?id=e1&subject=products/1", "1").await })
        };
        eventually("it is recorded", SOON, || async { (site.log("DB").await.len() == 1).then_some(()) }).await;
        assert!(!waiting.is_finished(), "nobody has told its publisher");
        waiting.abort();
        proxy.set(Way::Back, Fault::None);
        // What others publish meanwhile changes nothing.
        site.alice().post("/events/DB/CREATE?id=e2&subject=products/1", "2").await.json(201);
        let again = alice.through(proxy.address()).post("/events/DB/CREATE?id=e1&subject=products/1", "1").await;
        let receipt = again.json(200);
        assert_eq!(receipt["duplicate"], true);
        let event =
            alice.through(proxy.address()).get(&format!("/events/{}", receipt["cursor"].as_str().unwrap())).await;
        let event = event.json(200);
        assert_eq!((&event["id"], &event["sequence"]), (&json!("e1"), &json!("00000000000000000001")));
        let log: Vec<_> = site.log("DB").await.iter().map(|logged| logged.envelope.id.clone()).collect();
        assert_eq!(log, ["e1", "e2"]);
    }
}

#[tokio::test]
async fn nobody_publishes_a_task_of_a_job() {
    let site = Site::start().await;
    for queue in ["JOBS_HIGH", "JOBS", "JOBS_LOW"] {
        let refused = site.alice().post(&format!("/events/{queue}/SEND_INVOICE"), "{}").await.problem(403);
        assert!(refused.contains("tasks of jobs"), "{refused}");
    }
    let receipt = site.alice().post("/events/DB/CREATE?reply_to=queue:JOBS", "{}").await.problem(403);
    assert!(receipt.contains("tasks of jobs"), "{receipt}");
    assert!(site.bus.queues().await.unwrap().is_empty(), "nothing was recorded");
}
