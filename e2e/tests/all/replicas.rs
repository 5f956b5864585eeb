//! Two gateways and two brokers act as one: any of them may be stopped.

use std::time::Duration;

use e2e::{Client, FleetOptions, System};
use hyper::Method;
use serde_json::{Value, json};
use testkit::eventually;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_gateways_and_one_of_two_brokers_may_be_stopped() {
    let (redis, postgres) = tokio::join!(testkit::redis(), testkit::postgres());
    let mut system = System::start_fleet(&FleetOptions::new(&redis.url(), &postgres.url())).await;
    let customer = system.customer("both@example.com").await;
    let (first, second) = (customer.clone(), customer.at(system.env("DEMO_URL_2")));
    let who = second.get("/session").await.expect(200).json();
    assert_eq!(who, first.get("/session").await.expect(200).json(), "one session on both");

    let operator = system.operator().await;
    let readers = [operator.clone(), operator.at(system.env("DEMO_URL_2"))];
    let mut follower = Follower::new();
    follower.read_until_quiet(&readers).await;

    for (round, stopped) in ["gateway/1", "gateway/2", "broker/1", "broker/2"].into_iter().enumerate() {
        system.change(stopped, "stop").await;
        let (buyer, reader) = match stopped {
            "gateway/1" => (&second, &readers[1]),
            _ => (&first, &readers[0]),
        };
        buy(buyer).await;
        let hello = json!({"round": round});
        eventually("an event is published", SOON, || async {
            let answer = reader.try_send(Method::POST, "/events/GREETINGS/HELLO", Some(hello.clone())).await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await;
        // The first that is still there answers; the cursor is good on each.
        eventually("its reader has it", SOON, || async {
            follower.read(reader).await;
            follower.has(round).then_some(())
        })
        .await;
        system.change(stopped, "start").await;
    }
    follower.was_told_each_thing_once();

    // A log-out counts on both.
    second.delete("/session").await.expect(204);
    first.get("/session").await.problem(401);
}

async fn buy(customer: &Client) {
    eventually("the cart takes a teapot", SOON, || async {
        let item = json!({"productId": "teapot", "quantity": 1});
        let added = customer.try_send(Method::POST, "/cart/add", Some(item)).await.ok()?;
        (added.status == 200).then_some(())
    })
    .await;
    let placed = customer.with("prefer", "wait=10").post("/order/place", json!({})).await.expect(201).json();
    eventually("the order is confirmed", SOON, || async {
        let order = customer.get(&format!("/orders/{}", placed["id"].as_str().unwrap())).await.expect(200).json();
        (order["status"] == "confirmed").then_some(())
    })
    .await;
}

/// Follows the queue by long-poll, with one cursor, whoever answers.
struct Follower {
    place: std::sync::Mutex<String>,
    seen: std::sync::Mutex<Vec<Value>>,
}

impl Follower {
    fn new() -> Self {
        Self { place: "from=earliest".to_owned().into(), seen: Vec::new().into() }
    }

    async fn read(&self, reader: &Client) -> usize {
        let place = self.place.lock().unwrap().clone();
        let path = format!("/events?filter=GREETINGS/*&limit=100&wait=1s&{place}");
        let Ok(answer) = reader.try_send(Method::GET, &path, None).await else { return 0 };
        if answer.status != 200 {
            return 0;
        }
        let page = answer.json();
        assert!(page["gap"].is_null(), "{page}");
        *self.place.lock().unwrap() = format!("cursor={}", page["cursor"].as_str().unwrap());
        let events = page["events"].as_array().unwrap();
        self.seen.lock().unwrap().extend(events.iter().map(|delivered| delivered["event"].clone()));
        events.len()
    }

    /// Both readers share the place.
    async fn read_until_quiet(&mut self, readers: &[Client]) {
        for reader in readers {
            while self.read(reader).await > 0 {}
        }
    }

    fn has(&self, round: usize) -> bool {
        self.seen.lock().unwrap().iter().any(|event| event["data"]["round"] == round)
    }

    /// A publish whose answer was lost may have been repeated by this test; what was recorded came once.
    fn was_told_each_thing_once(&self) {
        let seen = self.seen.lock().unwrap();
        let mut ids: Vec<&str> = seen.iter().map(|event| event["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count, "{seen:?}");
    }
}
