//! The page of webhooks, between a browser and a broker that answers as the contract says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use http::{StatusCode, Uri};
use serde_json::{Value, json};
use testkit::Browser;

use crate::{
    Running, Site,
    browser::{FAINT, NAMELESS, WIDTHS, keep},
};

const LIVE: &str = "document.querySelector('[data-testid=link]').dataset.state === 'live'";
const ROWS: &str = "document.querySelectorAll('#endpoints tbody tr').length";

/// What the gateway is: the dashboard behind one path, the broker behind another.
#[derive(Clone)]
struct Front {
    dashboard: String,
    /// The endpoints.
    webhooks: Arc<Mutex<Vec<Value>>>,
    /// What it was told to do: method and path, and the body.
    told: Arc<Mutex<Vec<(String, Value)>>>,
}

fn webhook(n: usize, state: &str) -> Value {
    let mut webhook = json!({
        "id": format!("wh_{n:032x}"), "owner": "partners/acme", "url": format!("https://acme{n}.example/hooks/orders"),
        "filter": "ORDERS/*,INVOICES/CREATED", "description": if n == 0 { "Acme's orders" } else { "" }, "ordered": n == 0,
        "ack_within": "15m", "remove_after": null, "signature": "v1", "receipts": false, "state": state,
        "failures": if n == 1 { 3 } else { 0 }, "failing_since": if n == 1 { json!("2026-11-21T10:00:00Z") } else { Value::Null },
        "last_success": "2026-11-21T11:00:00Z", "lag": n * 1234, "in_flight": 0, "retrying": n, "parked": 0, "dead": n / 2,
        "oldest": null, "lost": 0, "lost_ranges": [], "abandoned": null,
        "created": "2026-11-20T10:00:00Z", "updated": "2026-11-20T10:00:00Z"
    });
    if state == "disabled" {
        webhook["reason"] = "failing".into();
        webhook["disabled_at"] = "2026-11-21T09:00:00Z".into();
    }
    webhook
}

fn attempt(n: usize, text: &str) -> Value {
    let fine = !n.is_multiple_of(3);
    json!({
        "event": format!("0199{n:04}-7c1a-7d2e-9b3f-0123456789ab"), "source": "/services/order", "address": "ORDERS/PLACED",
        "attempt": 1 + n % 3, "at": format!("2026-11-21T11:{:02}:00Z", 59 - n % 60), "took_ms": 12.5 * n as f64,
        "class": if fine { "delivered" } else { "timeout" }, "status": if fine { json!(204) } else { Value::Null },
        "error": if fine { Value::Null } else { json!("no answer within 20s") }, "answer": text
    })
}

impl Front {
    /// In front of a dashboard; where it listens.
    async fn start(dashboard: &Running) -> (Self, SocketAddr) {
        let webhooks = vec![webhook(0, "enabled"), webhook(1, "enabled"), webhook(2, "disabled")];
        let front =
            Self { dashboard: dashboard.url(""), webhooks: Arc::new(Mutex::new(webhooks)), told: Arc::default() };
        let router = Router::new()
            .route("/webhooks", get(list))
            .route("/webhooks/{id}/attempts", get(attempts))
            .route("/webhooks/{id}/{verb}", post(act))
            .fallback(pass)
            .with_state(front.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (front, address)
    }
}

async fn list(State(front): State<Front>) -> Json<Value> {
    Json(json!({ "webhooks": *front.webhooks.lock().unwrap() }))
}

async fn attempts(Query(query): Query<Value>) -> Json<Value> {
    let hostile = "<img src=x onerror=window.hit=1><script>window.hit=2</script>";
    let all = (0..30).map(|n| attempt(n, hostile));
    let only = query["failed"] == "true";
    let shown: Vec<Value> = all.filter(|attempt| !only || attempt["class"] != "delivered").collect();
    Json(json!({ "attempts": shown }))
}

async fn act(
    State(front): State<Front>,
    Path((id, verb)): Path<(String, String)>,
    body: String,
) -> Result<Json<Value>, StatusCode> {
    let asked: Value = serde_json::from_str(&body).unwrap_or_default();
    front.told.lock().unwrap().push((format!("{verb} {id}"), asked.clone()));
    let mut webhooks = front.webhooks.lock().unwrap();
    let one = webhooks.iter_mut().find(|webhook| webhook["id"] == id.as_str()).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(match verb.as_str() {
        "enable" => {
            let dry_run = asked["dry_run"] == true;
            if !dry_run {
                one["state"] = "enabled".into();
            }
            let (count, skipped) = if asked["from"] == "now" { (0, 2468) } else { (2468, 0) };
            json!({ "count": count, "again": 0, "skipped": skipped, "lost": 7, "lost_ranges": [], "dry_run": dry_run })
        }
        "disable" => {
            (one["state"], one["reason"], one["disabled_at"]) =
                ("disabled".into(), "asked".into(), "2026-11-21T11:00:00Z".into());
            one.clone()
        }
        _ => attempt(1, "pong"),
    }))
}

/// Everything else is the dashboard's.
async fn pass(State(front): State<Front>, uri: Uri) -> Response {
    let path = uri.path_and_query().unwrap().as_str();
    let http = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let request = http::Request::get(format!("{}{path}", front.dashboard)).body(Body::empty()).unwrap();
    http.request(request).await.unwrap().map(Body::new).into_response()
}

async fn open(address: SocketAddr, query: &str) -> Browser {
    let mut browser = testkit::browser().await;
    browser.viewport(1440, 900).await;
    browser.navigate(&format!("http://{address}/dashboard/webhooks{query}")).await;
    browser.until(LIVE).await;
    browser
}

async fn click(browser: &mut Browser, what: &str) {
    browser.until(&format!("document.querySelector({what:?})?.checkVisibility()")).await;
    browser.evaluate(&format!("document.querySelector({what:?}).click()")).await;
}

#[tokio::test]
async fn endpoints_are_listed_and_one_is_looked_at() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    let (_, address) = Front::start(&dashboard).await;
    let mut browser = open(address, "").await;
    browser.until(&format!("{ROWS} === 3")).await;
    assert_eq!(browser.evaluate("document.getElementById('chosen').hidden").await, true);
    click(&mut browser, "#endpoints tbody tr:nth-child(3) .choose").await;
    browser.until("document.querySelectorAll('#attempts li').length === 30").await;
    browser
        .until("document.getElementById('finding').textContent.includes('nothing but failures for five days')")
        .await;
    browser.evaluate("document.getElementById('failed').click()").await;
    browser.until("document.querySelectorAll('#attempts li').length === 10").await;
    // What a receiver answers is text.
    click(&mut browser, "#attempts li:first-child .try").await;
    browser.until("document.getElementById('attempt-text').textContent.includes('<script>')").await;
    assert_eq!(browser.evaluate("document.querySelectorAll('main img, dialog img, body script').length").await, 0);
    assert_eq!(browser.evaluate("window.hit ?? null").await, Value::Null);
    // The address bar names the one that is chosen.
    let mut again = open(address, &format!("?id=wh_{:032x}", 1)).await;
    again.until("document.querySelectorAll('#attempts li').length === 30").await;
    assert_eq!(browser.faults().await, Vec::<String>::new());
    dashboard.drain().await;
}

#[tokio::test]
async fn enabling_shows_first_what_comes() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    let (front, address) = Front::start(&dashboard).await;
    let mut browser = open(address, &format!("?id=wh_{:032x}", 2)).await;
    click(&mut browser, "#enable").await;
    browser.until("document.getElementById('enable-dialog').open").await;
    let text = browser.evaluate("document.getElementById('enable-dialog').textContent").await;
    let text = text.as_str().unwrap();
    assert!(text.contains("it gets 2,468 events") && text.contains("2,468 events are passed over"), "{text}");
    assert!(text.contains("7 events were dropped"), "{text}");
    assert!(front.told.lock().unwrap().iter().all(|(_, asked)| asked["dry_run"] == true), "nothing was done yet");
    click(&mut browser, "#enable-go").await;
    browser.until("!document.getElementById('enable-dialog').open").await;
    browser.until("!document.getElementById('disable').hidden").await;
    let told = front.told.lock().unwrap().last().cloned().unwrap();
    assert_eq!(told, (format!("enable wh_{:032x}", 2), json!({ "from": "then" })));
    click(&mut browser, "#test").await;
    browser.until("document.getElementById('attempt-text').textContent === 'pong'").await;
    dashboard.drain().await;
}

#[tokio::test]
async fn the_page_of_webhooks_fits_and_can_be_read_at_every_width_in_light_and_dark() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    let (_, address) = Front::start(&dashboard).await;
    let mut browser = open(address, &format!("?id=wh_{:032x}", 2)).await;
    browser.until("document.querySelectorAll('#attempts li').length === 30").await;
    assert_eq!(browser.evaluate(NAMELESS).await, json!([]));
    for scheme in ["light", "dark"] {
        browser.color_scheme(scheme).await;
        for width in WIDTHS {
            browser.viewport(width, 900).await;
            browser.until(&format!("innerWidth === {width}")).await;
            let wide = "document.documentElement.scrollWidth - innerWidth";
            assert!(browser.evaluate(wide).await.as_i64().unwrap() <= 0, "{scheme} {width}: it scrolls sideways");
            assert_eq!(browser.evaluate(FAINT).await, json!([]), "{scheme} {width}");
            keep(&mut browser, &format!("webhooks-{scheme}-{width}.png")).await;
        }
    }
    assert_eq!(browser.faults().await, Vec::<String>::new());
    dashboard.drain().await;
}
