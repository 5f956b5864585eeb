//! Whatever is killed under traffic, as `kill -9` does: afterwards everything that was acknowledged adds up.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use e2e::{Client, FleetOptions, Sms, System, binary};
use hyper::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::heard::{SALES, notifications};

const SHOPPERS: usize = 3;
/// How many orders are acknowledged between two kills.
const BETWEEN: usize = 2;
const PROGRESS: Duration = Duration::from_secs(90);
const SETTLED: Duration = Duration::from_secs(180);
/// What a notifier handles at once: so many texts may have been sent, and not yet written down, when it is killed.
const IN_THE_WINDOW: usize = 8 * SALES.len();

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_under_traffic_adds_up() {
    let (mut redis, postgres, sms) = tokio::join!(testkit::redis(), testkit::postgres(), Sms::start());
    let mut options = FleetOptions::new(&redis.url(), &postgres.url());
    options.notifications = Some(notifications(&sms));
    let mut system = System::start_fleet(&options).await;
    let traffic = Traffic::start(&system);
    let shoppers = Shoppers::start(&system).await;

    for name in system.fleet().names() {
        shoppers.progress().await;
        system.fleet().kill(&name);
        system.fleet().restart(&name).await;
    }
    shoppers.progress().await;
    redis.kill();
    redis.restart().await;
    shoppers.progress().await;

    drop(traffic);
    let acknowledged = shoppers.stop().await;
    assert!(acknowledged.len() >= BETWEEN * 14, "{}", acknowledged.len());
    every_order_is_settled_once(&acknowledged).await;
    let log = every_event_is_logged_once(&system).await;
    every_sales_person_was_told(&sms, &log).await;
}

/// `turnpike traffic`, beside the shoppers of this test.
struct Traffic(Child);

impl Traffic {
    fn start(system: &System) -> Self {
        let mut command = Command::new(binary());
        command.args(["traffic", "--rate", "10", "--url", system.env("DEMO_URL")]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An order that the shop has acknowledged, and whose it is.
#[derive(Clone)]
struct Acknowledged {
    order: String,
    customer: Client,
}

/// Customers who order one teapot after the other and ask again, under the same key, until they have an answer.
struct Shoppers {
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Shoppers {
    async fn start(system: &System) -> Self {
        let (acknowledged, stop) = (Arc::<Mutex<Vec<Acknowledged>>>::default(), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        for number in 0..SHOPPERS {
            let customer = system.customer(&format!("shopper-{number}@example.com")).await;
            let gateways = [customer.clone(), customer.at(system.env("DEMO_URL_2"))];
            let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
            tasks.push(tokio::spawn(async move {
                for round in 0.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    let order = order(&gateways, &format!("shopper-{number}-{round}")).await;
                    acknowledged.lock().unwrap().push(Acknowledged { order, customer: customer.clone() });
                    until_the_cart_is_empty(&gateways).await;
                }
            }));
        }
        Self { acknowledged, stop, tasks }
    }

    /// Waits until some more orders are acknowledged: there is traffic while something is killed.
    async fn progress(&self) {
        let count = || self.acknowledged.lock().unwrap().len();
        let before = count();
        eventually("orders are acknowledged", PROGRESS, || async { (count() >= before + BETWEEN).then_some(()) }).await;
    }

    async fn stop(self) -> Vec<Acknowledged> {
        self.stop.store(true, Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.acknowledged.lock().unwrap().clone()
    }
}

/// Puts a teapot into the cart and orders it, by whichever gateway answers; the id of the order.
async fn order(gateways: &[Client; 2], key: &str) -> String {
    let item = json!({"productId": "teapot", "quantity": 1});
    insist(gateways, "/cart/add", &item, None).await;
    let placed = insist(gateways, "/order/place", &json!({}), Some(key)).await;
    placed["id"].as_str().unwrap().to_owned()
}

/// What is ordered leaves the cart; what is ordered before that is ordered twice.
async fn until_the_cart_is_empty(gateways: &[Client; 2]) {
    let end = tokio::time::Instant::now() + PROGRESS;
    let mut turns = gateways.iter().cycle();
    while tokio::time::Instant::now() < end {
        // A principal has a hundred requests a minute.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Ok(answer) = turns.next().unwrap().try_send(Method::GET, "/cart", None).await else { continue };
        if answer.status == 200 && answer.json()["items"] == json!([]) {
            return;
        }
    }
    panic!("the cart was not cleared in {PROGRESS:?}");
}

/// Asks until there is an answer of success.
async fn insist(gateways: &[Client; 2], path: &str, body: &Value, key: Option<&str>) -> Value {
    let mut turn = 0;
    eventually(&format!("POST {path} succeeds"), PROGRESS, || {
        turn += 1;
        let gateway = &gateways[turn % 2];
        let gateway = key.map_or_else(|| gateway.clone(), |key| gateway.with("idempotency-key", key));
        async move {
            match gateway.try_send(Method::POST, path, Some(body.clone())).await {
                Ok(answer) if answer.status.is_success() => Some(answer.json()),
                Ok(answer) if answer.status.is_server_error() || answer.status == 429 || answer.status == 409 => None,
                Ok(answer) => panic!("{path}: {answer:?}"),
                Err(_) => None,
            }
        }
    })
    .await
}

async fn every_order_is_settled_once(acknowledged: &[Acknowledged]) {
    let orders: BTreeSet<&str> = acknowledged.iter().map(|one| one.order.as_str()).collect();
    assert_eq!(orders.len(), acknowledged.len(), "an order was acknowledged under two keys");
    let mut numbers = BTreeSet::new();
    for Acknowledged { order, customer } in acknowledged {
        let settled = eventually("the order is settled", SETTLED, || async {
            let order = patiently(customer, &format!("/orders/{order}")).await?;
            (order["status"] != "pending").then_some(order)
        })
        .await;
        assert_eq!(settled["status"], "confirmed", "{settled}");
        let invoice = eventually("the order has its invoice", SETTLED, || async {
            patiently(customer, &format!("/orders/{order}/invoice")).await
        })
        .await;
        assert_eq!(invoice["orderId"], **order);
        assert!(numbers.insert(invoice["number"].to_string()), "two orders have one invoice: {invoice}");
    }
}

/// A document, if its reader may have it now: a principal has a hundred requests a minute.
async fn patiently(customer: &Client, path: &str) -> Option<Value> {
    let answer = customer.get(path).await;
    match answer.status.as_u16() {
        200 => Some(answer.json()),
        404 | 503 => None,
        429 => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            None
        }
        _ => panic!("{path}: {answer:?}"),
    }
}

/// Every event of `DB`, by (source, id): what the broker reads from the log, and what the logger has stored.
async fn every_event_is_logged_once(system: &System) -> BTreeMap<(String, String), Value> {
    let operator = system.operator().await;
    let logger = system.ops_of("logger");
    eventually("the logger has every event", SETTLED, || async {
        // In this order: what comes meanwhile is in the log before it is stored.
        let stored = stored(&logger).await;
        let log = log(&operator).await;
        let once: BTreeSet<&(String, String)> = stored.iter().collect();
        assert_eq!(once.len(), stored.len(), "an event is stored twice");
        let unknown: Vec<_> = once.iter().filter(|id| !log.contains_key(**id)).collect();
        assert!(unknown.is_empty(), "stored, but not in the log: {unknown:?}");
        (once.len() == log.len()).then_some(log)
    })
    .await
}

async fn log(operator: &Client) -> BTreeMap<(String, String), Value> {
    let mut events = BTreeMap::new();
    let mut place = "from=earliest".to_owned();
    loop {
        let answer = operator.get(&format!("/events?filter=DB/*&limit=500&wait=1s&{place}")).await;
        if answer.status == 429 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        }
        if answer.status == 204 {
            return events;
        }
        let page = answer.expect(200).json();
        for delivered in page["events"].as_array().unwrap() {
            let event = &delivered["event"];
            let id = (event["source"].as_str().unwrap().to_owned(), event["id"].as_str().unwrap().to_owned());
            assert!(events.insert(id, event.clone()).is_none(), "the log has an event twice: {event}");
        }
        place = format!("cursor={}", page["cursor"].as_str().unwrap());
    }
}

async fn stored(logger: &Client) -> Vec<(String, String)> {
    let mut stored = Vec::new();
    let mut before = String::new();
    loop {
        let page = logger.get(&format!("/logger/events?queue=DB&limit=500{before}")).await.expect(200).json();
        let text = |logged: &Value, field: &str| logged["envelope"][field].as_str().unwrap().to_owned();
        let events = page["events"].as_array().unwrap().iter();
        stored.extend(events.map(|logged| (text(logged, "source"), text(logged, "id"))));
        match page["next_before"].as_i64() {
            Some(next) => before = format!("&before={next}"),
            None => return stored,
        }
    }
}

async fn every_sales_person_was_told(sms: &Sms, log: &BTreeMap<(String, String), Value>) {
    let accounts: Vec<&str> = log
        .values()
        .filter(|event| event["source"] == "/services/customer" && event["event"] == "CREATE")
        .filter_map(|event| event["subject"].as_str())
        .collect();
    assert!(accounts.len() >= SHOPPERS, "{accounts:?}");
    let told = |account: &str, phone: &str| {
        let text = format!("New account {account}");
        sms.texts().iter().filter(|sent| sent.to == phone && sent.body == text).count()
    };
    eventually("every text was sent", SETTLED, || async {
        accounts.iter().all(|account| SALES.iter().all(|phone| told(account, phone) > 0)).then_some(())
    })
    .await;
    let repeated: usize = accounts.iter().flat_map(|account| SALES.iter().map(|phone| told(account, phone) - 1)).sum();
    println!("{} texts of {} accounts, {repeated} of them repeated", sms.texts().len(), accounts.len());
    // Only the kill of the notifier, between the provider's answer and the ledger's commit, may repeat one.
    assert!(repeated <= IN_THE_WINDOW, "{repeated} repeated");
}
