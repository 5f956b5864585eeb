//! One account is heard of everywhere: in Redis, by the logger, on the dashboard, by the sales people; and what happens
//! while somebody is away reaches them when they are back.

use std::{process::Command, time::Duration};

use e2e::{Client, FleetOptions, Sms, System};
use serde_json::json;
use testkit::{Browser, eventually};

const SOON: Duration = Duration::from_secs(30);
pub const SALES: [&str; 3] = ["+491700000001", "+491700000002", "+491700000003"];

/// What the page says of `DB/CREATE`.
const COUNT: &str =
    "Number((document.querySelector('[data-testid=\"count-DB-CREATE\"]')?.textContent ?? '').replace(/\\D/g, ''))";

/// Each sales person gets a text for each account.
pub fn notifications(sms: &Sms) -> String {
    let name = |phone: &str| format!("sales {}", &phone[1..]);
    let people: String = SALES.iter().map(|phone| format!("{{name: {}, phone: \"{phone}\"}}, ", name(phone))).collect();
    let names: String = SALES.iter().map(|phone| format!("{}, ", name(phone))).collect();
    format!(
        "{{channels: {{sms: {{base_url: \"{}\", account: AC00000000000000000000000000000000, token: secret, from: \
         \"+491700000000\"}}}}, people: [{people}], groups: {{sales: [{names}]}}, rules: [{{name: new-account, on: \
         DB/CREATE, where: {{event.source: /services/customer}}, template: {{text: \"New account {{event.subject}}\"}}, \
         recipients: {{sms: [sales]}}}}]}}",
        sms.url()
    )
}

/// The text that the account's creation becomes.
async fn sign_up(system: &System, email: &str) -> String {
    let account = json!({"email": email, "password": "correct horse battery", "name": "A Customer"});
    let account = system.anonymous().post("/accounts", account).await.expect(201).json();
    format!("New account customers/{}", account["id"].as_str().unwrap())
}

/// How many events of an account's creation `redis-cli` sees in the stream.
fn in_redis(url: &str, email: &str) -> usize {
    let output = Command::new("redis-cli").args(["-u", url, "XRANGE", "tp:{DB:0}:s", "-", "+"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let entries = String::from_utf8_lossy(&output.stdout).replace("\\\"", "\"");
    entries.matches(&format!("\"email\":\"{email}\"")).count()
}

/// How many accounts the logger has.
async fn logged(logger: &Client) -> u64 {
    let path = "/logger/summaries?queue=DB&event=CREATE&source=/services/customer";
    let summaries = logger.get(path).await.expect(200).json();
    summaries["summaries"].as_array().unwrap().iter().filter_map(|row| row["events"].as_u64()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_heard_of_everywhere() {
    let (redis, postgres, sms) = tokio::join!(testkit::redis(), testkit::postgres(), Sms::start());
    let mut options = FleetOptions::new(&redis.url(), &postgres.url());
    options.notifications = Some(notifications(&sms));
    let mut system = System::start_fleet(&options).await;
    let logger = system.ops_of("logger");
    let mut browser = testkit::browser().await;
    // The seeded accounts were told of before anyone watched.
    let before = eventually("the seeded accounts are logged", SOON, || async {
        let logged = logged(&logger).await;
        (logged >= 2).then_some(logged)
    })
    .await;
    sign_in(&mut browser, &system).await;
    browser.navigate(&format!("{}/dashboard", system.env("DEMO_URL"))).await;

    // Products, reviews and accounts; nothing is made any more until somebody signs up.
    let made = eventually("the seed is logged", SOON, || async {
        let summaries = logger.get("/logger/summaries?queue=DB&event=CREATE").await.expect(200).json();
        let status = system.ops_of("broker").get("/readyz").await.status;
        (status == 200).then(|| summaries["total"].as_u64().unwrap())
    })
    .await;
    browser.until(&format!("{COUNT} === {made}")).await;

    let mut texts = vec![sign_up(&system, "ada@example.com").await];
    eventually("Redis has one CREATE", SOON, || async {
        (in_redis(&redis.url(), "ada@example.com") == 1).then_some(())
    })
    .await;
    eventually("the logger has one row more", SOON, || async { (logged(&logger).await == before + 1).then_some(()) })
        .await;
    browser.until(&format!("{COUNT} === {}", made + 1)).await;
    each_sales_person_has(&sms, &texts).await;

    assert_eq!(browser.faults().await, Vec::<String>::new());
    browser.offline(true).await;
    system.change("logger", "stop").await;
    for number in 0..3 {
        texts.push(sign_up(&system, &format!("away-{number}@example.com")).await);
    }
    each_sales_person_has(&sms, &texts).await;
    assert_eq!(browser.evaluate(COUNT).await.as_u64(), Some(made + 1), "offline");
    browser.offline(false).await;
    system.change("logger", "start").await;
    eventually("three rows more", SOON, || async { (logged(&logger).await == before + 4).then_some(()) }).await;
    browser.until(&format!("{COUNT} === {}", made + 4)).await;
    // Nothing was loaded again: the page is the one that was opened.
    assert_eq!(browser.evaluate("performance.getEntriesByType('navigation').length").await.as_u64(), Some(1));
    assert_eq!(logged(&logger).await, before + 4);
    assert_eq!(in_redis(&redis.url(), "ada@example.com"), 1);
    each_sales_person_has(&sms, &texts).await;
}

/// The browser has the operator's session afterwards.
async fn sign_in(browser: &mut Browser, system: &System) {
    let credentials =
        json!({"email": system.env("DEMO_OPERATOR_EMAIL"), "password": system.env("DEMO_OPERATOR_PASSWORD")});
    browser.navigate(&format!("{}/products?page_size=1", system.env("DEMO_URL"))).await;
    let request =
        json!({"method": "POST", "headers": {"content-type": "application/json"}, "body": credentials.to_string()});
    let status = browser.evaluate(&format!("fetch('/session', {request}).then(answer => answer.status)")).await;
    assert_eq!(status.as_u64(), Some(201));
    // A document of JSON names no icon, and the browser misses it.
    browser.faults().await;
}

async fn each_sales_person_has(sms: &Sms, texts: &[String]) {
    eventually("each sales person has each text once", SOON, || async {
        let sent = sms.texts();
        let times = |phone: &str, body: &str| sent.iter().filter(|text| text.to == phone && text.body == body).count();
        let mut every = SALES.iter().flat_map(|phone| texts.iter().map(move |body| (phone, body)));
        assert!(every.clone().all(|(phone, body)| times(phone, body) <= 1), "one came twice: {sent:?}");
        every.all(|(phone, body)| times(phone, body) == 1).then_some(())
    })
    .await;
}
