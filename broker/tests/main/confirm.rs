//! Confirmation: what a publisher may wait for, with real consumers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Consumer, Delivery, Failure, Group, Handler, Mode};
use serde_json::{Value, json};
use testkit::eventually;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::site::{SOON, Site};

/// Handles one event for each permit; with a reason it refuses them.
struct Gate {
    permits: Arc<Semaphore>,
    refusal: Option<&'static str>,
}

#[async_trait]
impl Handler for Gate {
    async fn handle(&self, _: &Delivery) -> Result<(), Failure> {
        self.permits.acquire().await?.forget();
        match self.refusal {
            None => Ok(()),
            Some(reason) => Err(Failure::Dead { reason: reason.to_owned() }),
        }
    }
}

impl Site {
    /// A consumer of this group, which handles as many events as there are permits; stopped when it is dropped.
    fn consumer(
        &self,
        group: &str,
        filter: &str,
        permits: &Arc<Semaphore>,
        refusal: Option<&'static str>,
    ) -> DropGuard {
        let group = Group::new(group, filter.parse().unwrap(), Mode::Parallel);
        let consumer = Consumer::new(self.bus.clone(), group, Arc::new(Gate { permits: permits.clone(), refusal }));
        let stop = CancellationToken::new();
        tokio::spawn(consumer.run(stop.clone(), stop.clone()));
        stop.drop_guard()
    }

    async fn consumer_at_once(&self, group: &str, filter: &str) -> DropGuard {
        let consumer = self.consumer(group, filter, &Arc::new(Semaphore::new(1000)), None);
        self.declared(group).await;
        consumer
    }

    async fn declared(&self, group: &str) {
        eventually("the group is declared", SOON, || async {
            self.bus.groups().await.unwrap().iter().any(|known| known.name == group).then_some(())
        })
        .await;
    }

    async fn status(&self, cursor: &Value, query: &str) -> Value {
        let cursor = cursor.as_str().unwrap();
        self.alice().get(&format!("/events/{cursor}/status{query}")).await.json(200)
    }
}

#[tokio::test]
async fn a_publisher_waits_until_every_group_has_acknowledged() {
    let site = Site::start().await;
    let slow = Arc::new(Semaphore::new(0));
    let (_fast, _slow) = (site.consumer_at_once("fast", "DB/*").await, site.consumer("slow", "DB/*", &slow, None));
    // Not for this event: it isn't waited for.
    let _other = site.consumer("other", "DB/DELETE", &Arc::new(Semaphore::new(0)), None);
    site.declared("slow").await;
    site.declared("other").await;
    let alice = site.alice();
    let publish =
        tokio::spawn(async move { alice.post("/events/DB/CREATE?confirm=delivered&timeout=60s", "{}").await });
    let name = events::Name::new("DB").unwrap();
    eventually("the fast group has acknowledged", SOON, || async {
        let standing = site.bus.standing(&name, 0, 1).await.unwrap();
        (standing.get("fast") == Some(&bus::Standing::Acked)).then_some(())
    })
    .await;
    assert!(!publish.is_finished());
    slow.add_permits(1);
    let receipt = publish.await.unwrap().json(201);
    assert_eq!((&receipt["confirm"], &receipt["requested"]), (&json!("delivered"), &json!("delivered")));
    assert_eq!(receipt["groups"], json!({"fast": "acked", "slow": "acked", "other": "filtered"}));
}

#[tokio::test]
async fn consumers_that_are_faster_than_the_waiter_are_not_missed() {
    let site = Site::start().await;
    let _fast = site.consumer_at_once("fast", "DB/*").await;
    let alice = site.alice();
    for n in 0..50 {
        let receipt =
            alice.post(&format!("/events/DB/CREATE?confirm=delivered&timeout=60s&id={n}"), "{}").await.json(201);
        assert_eq!(receipt["confirm"], "delivered");
    }
    // Long acknowledged: answered at once.
    let again = alice.post("/events/DB/CREATE?confirm=delivered&timeout=60s&id=7&key=x", "{}").await;
    assert!(again.status.is_success());
    let again = alice.post("/events/DB/CREATE?confirm=delivered&timeout=60s&id=7", "{}").await.json(200);
    assert_eq!((&again["confirm"], &again["duplicate"]), (&json!("delivered"), &json!(true)));
}

#[tokio::test]
async fn with_nobody_there_the_status_says_later_who_came() {
    let site = Site::start().await;
    let answer = site.alice().post("/events/DB/CREATE?confirm=delivered&timeout=50ms", "{}").await;
    let receipt = answer.json(202);
    assert_eq!((&receipt["confirm"], &receipt["reason"]), (&json!("stored"), &json!("timeout")));
    let status = format!("/events/{}/status", receipt["cursor"].as_str().unwrap());
    assert_eq!(answer.header("location"), Some(status.as_str()));
    assert_eq!(site.status(&receipt["cursor"], "").await["delivery"], "nobody");

    let watching = site.status(&receipt["cursor"], "?watch=1&timeout=60s");
    let coming = async { site.consumer_at_once("late", "DB/*").await };
    let (status, _late) = tokio::join!(watching, coming);
    assert_eq!((&status["delivery"], &status["groups"]), (&json!("delivered"), &json!({"late": "acked"})));
    assert_eq!((&status["position"], &status["event"]), (&json!(1), &json!("CREATE")));
}

#[tokio::test]
async fn a_publisher_is_held_until_somebody_comes() {
    let site = Site::start().await;
    let alice = site.alice();
    let publish = alice.post("/events/DB/CREATE?confirm=delivered:late&timeout=60s", "{}");
    let coming = async {
        eventually("it is recorded", SOON, || async { (!site.log("DB").await.is_empty()).then_some(()) }).await;
        site.consumer_at_once("late", "DB/*").await
    };
    let (answer, _late) = tokio::join!(publish, coming);
    assert_eq!(answer.json(201)["groups"], json!({"late": "acked"}));
}

#[tokio::test]
async fn a_named_group_is_waited_for_alone() {
    let site = Site::start().await;
    let _fast = site.consumer_at_once("fast", "DB/*").await;
    let _stuck = site.consumer("stuck", "DB/*", &Arc::new(Semaphore::new(0)), None);
    let _deletes = site.consumer_at_once("deletes", "DB/DELETE").await;
    site.declared("stuck").await;
    let alice = site.alice();
    let receipt = alice.post("/events/DB/CREATE?confirm=delivered:fast&timeout=60s", "{}").await.json(201);
    assert_eq!(receipt["groups"], json!({"fast": "acked"}));
    let receipt = alice.post("/events/DB/CREATE?confirm=delivered&timeout=50ms", "{}").await.json(202);
    assert_eq!(receipt["reason"], "timeout");
    assert_eq!(receipt["groups"]["deletes"], "filtered");
    let receipt = alice.post("/events/DB/CREATE?confirm=delivered:absent&timeout=50ms", "{}").await.json(202);
    assert_eq!(receipt["groups"], json!({"absent": null}));
    // It will never take it: nobody need wait.
    let receipt = alice.post("/events/DB/CREATE?confirm=delivered:deletes&timeout=60s", "{}").await.json(202);
    assert_eq!((&receipt["reason"], &receipt["groups"]), (&json!("not_taken"), &json!({"deletes": "filtered"})));
}

#[tokio::test]
async fn a_dead_letter_ends_the_wait_and_says_whose_it_is() {
    let site = Site::start().await;
    let _refuses = site.consumer("refuses", "DB/*", &Arc::new(Semaphore::new(1000)), Some("no such product"));
    let _stuck = site.consumer("stuck", "DB/*", &Arc::new(Semaphore::new(0)), None);
    site.declared("refuses").await;
    site.declared("stuck").await;
    let receipt = site.alice().post("/events/DB/CREATE?confirm=delivered&timeout=60s", "{}").await.json(202);
    assert_eq!((&receipt["confirm"], &receipt["reason"]), (&json!("stored"), &json!("dead_letter")));
    assert_eq!(receipt["groups"]["refuses"], "dead");
    let status = site.status(&receipt["cursor"], "").await;
    assert_eq!((&status["delivery"], &status["groups"]["refuses"]), (&json!("failed"), &json!("dead")));
    let operator = site.operator();
    let letters = operator.get("/groups/refuses/dead-letters").await.json(200);
    let letter = &letters["dead_letters"][0];
    assert_eq!((&letter["reason"], &letter["error"]), (&json!("refused"), &json!("no such product")));
    assert_eq!(letter["event"]["id"], receipt["id"]);
}

#[tokio::test]
async fn who_would_rather_not_wait_is_answered_at_once() {
    let site = Site::start().await;
    let _stuck = site.consumer("stuck", "DB/*", &Arc::new(Semaphore::new(0)), None);
    site.declared("stuck").await;
    let patient = site.alice().with("prefer", "respond-async");
    let answer = patient.post("/events/DB/CREATE?confirm=delivered&timeout=60s", "{}").await;
    assert_eq!(answer.json(202)["reason"], "not_waited_for");
    assert_eq!(answer.header("preference-applied"), Some("respond-async"));
    assert!(answer.header("location").unwrap().ends_with("/status"));
    assert_eq!(patient.post("/events/DB/CREATE", "{}").await.json(202)["confirm"], "stored");
}

#[tokio::test]
async fn a_handler_can_t_wait_for_its_own_group() {
    let site = Site::start().await;
    let (_own, _other) = (site.consumer_at_once("own", "DB/*").await, site.consumer_at_once("other", "DB/*").await);
    let handler = site.alice().with("turnpike-group", "own");
    for confirm in ["delivered", "delivered:other,own"] {
        let detail = handler.post(&format!("/events/DB/CREATE?confirm={confirm}&timeout=60s"), "{}").await.problem(409);
        assert!(detail.contains("own"), "{detail}");
    }
    assert!(site.log("DB").await.is_empty());
    handler.post("/events/DB/CREATE?confirm=delivered:other&timeout=60s", "{}").await.json(201);
    handler.post("/events/DB/CREATE", "{}").await.json(201);
}

#[tokio::test]
async fn a_level_that_this_bus_doesn_t_give_is_refused_unless_a_lower_one_will_do() {
    let site = Site::start().await;
    let alice = site.alice();
    assert_eq!(alice.post("/events/DB/CREATE?confirm=fsynced", "{}").await.json(201)["confirm"], "fsynced");
    alice.post("/events/DB/CREATE?confirm=replicated:2", "{}").await.problem(409);
    let receipt = alice.post("/events/DB/CREATE?confirm=replicated:2&allow_degraded=true", "{}").await.json(201);
    assert_eq!((&receipt["confirm"], &receipt["requested"]), (&json!("stored"), &json!("replicated:2")));
    assert_eq!(receipt["degraded"], true);
    assert_eq!(site.log("DB").await.len(), 2);
}

#[tokio::test]
async fn a_batch_is_not_waited_for() {
    let site = Site::start().await;
    let alice = site.alice().with("content-type", "application/cloudevents-batch+json");
    let event = json!({"specversion": "1.0", "type": "t", "queue": "DB", "event": "CREATE"});
    let detail = alice.post("/events?confirm=delivered", json!([event, event]).to_string()).await.problem(400);
    assert!(detail.starts_with("confirm: "), "{detail}");
    assert!(site.log("DB").await.is_empty());
}

#[tokio::test]
async fn a_batch_of_one_says_that_its_event_is_not_delivered_yet() {
    let site = Site::start().await;
    let alice = site.alice().with("content-type", "application/cloudevents-batch+json");
    let event = json!([{"specversion": "1.0", "type": "t", "queue": "DB", "event": "CREATE"}]).to_string();
    let answer = alice.post("/events?confirm=delivered&timeout=50ms", event).await.json(202);
    assert_eq!(
        (&answer["events"][0]["confirm"], &answer["events"][0]["reason"]),
        (&json!("stored"), &json!("timeout"))
    );
}

#[tokio::test]
async fn beyond_so_many_waiters_nothing_is_recorded() {
    let site = Site::start_with(broker::Settings { waiters: 1, ..broker::Settings::default() }).await;
    let alice = site.alice();
    let first =
        tokio::spawn(async move { alice.post("/events/DB/CREATE?confirm=delivered:late&timeout=60s", "{}").await });
    let recorded = eventually("it is recorded", SOON, || async { site.log("DB").await.first().cloned() }).await;
    let alice = site.alice();
    let refused = alice.post("/events/DB/CREATE?confirm=delivered&timeout=60s", "{}").await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(503);
    assert_eq!(site.log("DB").await.len(), 1, "who is refused may do it again");
    // Who doesn't wait is served.
    let cursor = alice.post("/events/DB/CREATE", "{}").await.json(201)["cursor"].clone();
    alice.with("prefer", "respond-async").post("/events/DB/CREATE?confirm=delivered", "{}").await.json(202);
    let status = format!("/events/{}/status", cursor.as_str().unwrap());
    alice.get(&status).await.json(200);
    alice.get(&format!("{status}?watch=1")).await.problem(503);
    let _late = site.consumer_at_once("late", "DB/*").await;
    assert_eq!(first.await.unwrap().json(201)["id"], recorded.envelope.id);
    alice.post("/events/DB/CREATE?confirm=delivered&timeout=60s", "{}").await.json(201);
}

#[tokio::test]
async fn a_broker_that_drains_keeps_nobody_waiting() {
    let site = Site::start().await;
    let alice = site.alice();
    let publish = alice.post("/events/DB/CREATE?confirm=delivered&timeout=60s", "{}");
    let drain = async {
        eventually("it is recorded", SOON, || async { (!site.log("DB").await.is_empty()).then_some(()) }).await;
        site.shutdown.begin(Duration::from_secs(30));
    };
    let (answer, ()) = tokio::join!(publish, drain);
    assert_eq!(answer.json(202)["reason"], "timeout");
}

#[tokio::test]
async fn a_receipt_comes_later_where_it_was_asked_for() {
    let site = Site::start().await;
    let _fast = site.consumer_at_once("fast", "DB/*").await;
    let alice = site.alice();
    let answer = alice.post("/events/DB/CREATE?id=a&reply_to=queue:REPLIES", "{}").await;
    let receipt = answer.json(202);
    assert_eq!((&receipt["confirm"], receipt.get("reason")), (&json!("stored"), None));
    assert!(answer.header("location").unwrap().ends_with("/status"));
    let given = eventually("the receipt comes", SOON, || async { site.log("REPLIES").await.first().cloned() }).await;
    assert_eq!((given.envelope.event.as_str(), given.envelope.causationid.as_deref()), ("COMPLETED", Some("a")));
    assert_eq!(given.envelope.owner.as_deref(), Some("alice"));
    // What gives receipts is no group that the event is for.
    let delivered = alice.post("/events/DB/CREATE?reply_to=queue:REPLIES&confirm=delivered&timeout=60s", "{}").await;
    assert_eq!(delivered.json(202)["groups"], json!({"fast": "acked"}));
}

#[tokio::test]
async fn a_receipt_goes_nowhere_its_publisher_may_not_write() {
    let site = Site::start().await;
    let bob = site.client("bob", &["events:write:DB/*", "events:write:REPLIES/COMPLETED"]);
    for (to, status) in
        [("https://example.com/hook", 400), ("queue:SYS", 400), ("queue:SECRETS", 403), ("queue:REPLIES", 403)]
    {
        bob.post(&format!("/events/DB/CREATE?reply_to={to}"), "{}").await.problem(status);
    }
    assert!(site.log("DB").await.is_empty());
}
