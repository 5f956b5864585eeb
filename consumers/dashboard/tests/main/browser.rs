use std::{path::Path, time::Duration};

use bus::{Claim, Group, Mode, Settlement, Subscription, Transport, Verb};
use principal::METADATA;
use testkit::Browser;

use crate::{Past, Running, Site, created, event};

const COUNT: &str = "document.querySelector('[data-testid=count-DB-CREATE]')?.textContent";
const LIVE: &str = "document.querySelector('[data-testid=link]').dataset.state === 'live'";
pub const WIDTHS: [u32; 3] = [360, 768, 1440];

async fn open(dashboard: &Running) -> Browser {
    let mut browser = testkit::browser().await;
    browser.viewport(1440, 900).await;
    sign(&mut browser, dashboard).await;
    browser.navigate(&dashboard.url("/dashboard")).await;
    browser.until(LIVE).await;
    browser
}

/// As the gateway does with each request: a token is good for a minute only.
async fn sign(browser: &mut Browser, dashboard: &Running) {
    browser.headers(&[(METADATA, &dashboard.token())]).await;
}

async fn shows(browser: &mut Browser, count: &str) {
    browser.until(&format!("{COUNT} === '{count}'")).await;
}

#[tokio::test]
async fn a_counter_rises_without_a_reload() {
    let site = Site::sqlite().await;
    site.publish(created(0..4)).await;
    let dashboard = site.start().await;
    let mut browser = open(&dashboard).await;
    shows(&mut browser, "4").await;
    browser.evaluate("window.untouched = true").await;
    site.publish(created(4..5)).await;
    shows(&mut browser, "5").await;
    assert_eq!(browser.evaluate("window.untouched").await, true);
    assert_eq!(browser.faults().await, Vec::<String>::new());
    dashboard.drain().await;
}

#[tokio::test]
async fn what_happened_while_the_browser_was_away_is_counted_when_it_is_back() {
    let site = Site::sqlite().await;
    site.publish(created(0..4)).await;
    let dashboard = site.start().await;
    let mut browser = open(&dashboard).await;
    shows(&mut browser, "4").await;
    browser.offline(true).await;
    browser.until("document.querySelector('[data-testid=link]').textContent.includes('stale since')").await;
    site.publish(created(4..7)).await;
    dashboard.counted("CREATE", 7).await;
    assert_eq!(browser.evaluate(COUNT).await, "4");
    sign(&mut browser, &dashboard).await;
    browser.offline(false).await;
    browser.until(LIVE).await;
    shows(&mut browser, "7").await;
    // And it goes on.
    site.publish(created(7..8)).await;
    shows(&mut browser, "8").await;
    dashboard.drain().await;
}

#[tokio::test]
async fn a_session_that_has_ended_asks_to_sign_in() {
    let site = Site::sqlite().await;
    let first = site.start().await;
    let mut browser = open(&first).await;
    // The connection ends, and the gateway no longer vouches for anybody.
    browser.headers(&[(METADATA, "nobody")]).await;
    browser.offline(true).await;
    browser.offline(false).await;
    browser.until("document.querySelector('[data-testid=link]').dataset.state === 'signed-out'").await;
    browser.until("document.getElementById('sign-in-dialog').open").await;
    assert_eq!(browser.evaluate("document.getElementById('sign-in-title').textContent").await, "Sign in again");
    // Not now: then by the button.
    browser.press("Escape").await;
    browser.until("!document.getElementById('sign-in-dialog').open").await;
    assert_eq!(browser.evaluate("document.getElementById('sign-in').hidden").await, false);
    first.drain().await;
}

#[tokio::test]
async fn what_an_event_says_is_text() {
    let site = Site::sqlite().await;
    let hostile = "<img src=x onerror=window.hit=1><script>window.hit=2</script>\"'`${window.hit=3}";
    let mut envelope = event("DB", "CREATE", hostile).data(serde_json::json!({ "<b>": hostile }));
    envelope.source = "/'onerror=window.hit=4".to_owned();
    site.publish(vec![envelope]).await;
    let roster = site.bus.roster();
    let follows = vec![Subscription { name: "s".to_owned(), filter: hostile.to_owned(), group: None }];
    let _joined = roster.join(Transport::Sse, Some(hostile.to_owned()), Some(hostile.to_owned()), follows);
    let dashboard = site.start().await;
    let mut browser = open(&dashboard).await;
    shows(&mut browser, "1").await;
    browser.until("document.querySelector('#recent .subject').textContent.startsWith('<img src=x')").await;
    browser.until("document.querySelector('#connections tbody th').textContent.startsWith('<img src=x')").await;
    browser.evaluate("document.querySelector('#recent button').click()").await;
    browser.until("document.getElementById('event-text').textContent.includes('<script>')").await;
    assert_eq!(browser.evaluate("document.querySelectorAll('main img, dialog img, body script').length").await, 0);
    assert_eq!(browser.evaluate("window.hit ?? null").await, serde_json::Value::Null);
    assert_eq!(browser.faults().await, Vec::<String>::new());
    dashboard.drain().await;
}

#[tokio::test]
async fn the_page_fits_and_can_be_read_at_every_width_in_light_and_dark() {
    let (site, clock) = Site::in_the_past(i64::try_from(PAST).unwrap()).await;
    let _joined = busy(&site, &clock).await;
    let (gateway, serving) = busy_gateway().await;
    let mut config = site.config();
    config.gateways = vec![gateway, format!("http://127.0.0.1:{}", testkit::free_port())];
    let dashboard = site.start_with(config).await;
    let mut browser = open(&dashboard).await;
    browser.until("document.querySelectorAll('#recent li').length === 50").await;
    browser.until("document.querySelectorAll('#gateways li').length === 2").await;
    if std::env::var("TURNPIKE_SCREENSHOTS").is_ok() {
        // For the chart of the requests to have something to show.
        for tick in 0..20 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let events = (0..5 + tick % 4).map(|number| event("DB", "UPDATE", &format!("products/{number}")));
            site.publish(events.collect()).await;
        }
    }
    for scheme in ["light", "dark"] {
        browser.color_scheme(scheme).await;
        for width in WIDTHS {
            browser.viewport(width, 900).await;
            browser.until(&format!("innerWidth === {width}")).await;
            let wide = "document.documentElement.scrollWidth - innerWidth";
            assert!(browser.evaluate(wide).await.as_i64().unwrap() <= 0, "{scheme} {width}: it scrolls sideways");
            let faint = browser.evaluate(FAINT).await;
            assert_eq!(faint, serde_json::json!([]), "{scheme} {width}");
            keep(&mut browser, &format!("{scheme}-{width}.png")).await;
        }
    }
    assert_eq!(browser.faults().await, Vec::<String>::new());
    serving.abort();
    dashboard.drain().await;
}

#[tokio::test]
async fn everything_can_be_reached_by_the_keyboard_and_has_a_name() {
    let site = Site::sqlite().await;
    site.publish(created(0..3)).await;
    let dashboard = site.start().await;
    let mut browser = open(&dashboard).await;
    browser.until("document.querySelectorAll('#recent li').length === 3").await;
    let nameless = browser.evaluate(NAMELESS).await;
    assert_eq!(nameless, serde_json::json!([]));
    let wanted = browser.evaluate("window.wanted = new Set([...document.querySelectorAll('a, button, input')].filter(each => each.checkVisibility() && !each.closest('dialog'))); wanted.size").await;
    for _ in 0..wanted.as_u64().unwrap() + 5 {
        browser.press("Tab").await;
        browser.evaluate("wanted.delete(document.activeElement)").await;
    }
    assert_eq!(browser.evaluate("[...wanted].map(each => each.outerHTML)").await, serde_json::json!([]));

    browser.evaluate("document.activeElement.blur()").await;
    browser.press("?").await;
    browser.until("document.getElementById('help-dialog').open").await;
    browser.press("Escape").await;
    browser.until("!document.getElementById('help-dialog').open").await;
    browser.press("/").await;
    browser.until("document.activeElement.id === 'filter'").await;
    for key in "customers/1".chars() {
        browser.press(&key.to_string()).await;
    }
    browser.until("document.querySelectorAll('#recent li').length === 1").await;
    dashboard.drain().await;
}

#[tokio::test]
async fn a_pause_holds_the_list_and_not_the_counts() {
    let site = Site::sqlite().await;
    site.publish(created(0..3)).await;
    let dashboard = site.start().await;
    let mut browser = open(&dashboard).await;
    browser.until("document.querySelectorAll('#recent li').length === 3").await;
    browser.press("p").await;
    site.publish(created(3..5)).await;
    shows(&mut browser, "5").await;
    assert_eq!(browser.evaluate("document.querySelectorAll('#recent li').length").await, 3);
    browser.press("p").await;
    browser.until("document.querySelectorAll('#recent li').length === 5").await;
    dashboard.drain().await;
}

#[tokio::test]
async fn a_theme_once_chosen_stays() {
    let site = Site::sqlite().await;
    let dashboard = site.start().await;
    let mut browser = open(&dashboard).await;
    browser.color_scheme("light").await;
    let light = browser.evaluate("getComputedStyle(document.body).backgroundColor").await;
    browser.evaluate("document.getElementById('theme').click()").await;
    let dark = browser.evaluate("getComputedStyle(document.body).backgroundColor").await;
    assert_ne!(light, dark);
    browser.navigate(&dashboard.url("/dashboard?again")).await;
    browser.until(LIVE).await;
    assert_eq!(browser.evaluate("getComputedStyle(document.body).backgroundColor").await, dark);
    dashboard.drain().await;
}

/// Texts whose contrast with what lies behind them is below 4.5 (WCAG 2.2, 1.4.3).
pub const FAINT: &str = r"(() => {
    const numbers = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
        .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const color = numbers(getComputedStyle(node).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const node of document.querySelectorAll('body *')) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        if (!own || !node.checkVisibility() || node.closest('dialog, svg, .unseen, .skip')) continue;
        if (node.getAnimations().length) continue;
        const [one, other] = [light(numbers(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => b - a);
        const contrast = (one + 0.05) / (other + 0.05);
        if (contrast < 4.5) faint.push(`${node.tagName}.${node.className} ${contrast.toFixed(2)} ${node.textContent.slice(0, 20)}`);
    }
    return faint;
})()";

pub const NAMELESS: &str = "[...document.querySelectorAll('a, button, input, [tabindex=\"0\"]')].filter((each) => \
    !(each.getAttribute('aria-label') || each.labels?.length || each.textContent.trim())).map((each) => each.outerHTML)";

/// Keeps a screenshot of the whole page where `TURNPIKE_SCREENSHOTS` says, to be looked at.
pub async fn keep(browser: &mut Browser, name: &str) {
    let Ok(folder) = std::env::var("TURNPIKE_SCREENSHOTS") else { return };
    tokio::time::sleep(Duration::from_millis(400)).await;
    let shot = browser.screenshot(true).await;
    std::fs::write(Path::new(&folder).join(name), shot).unwrap();
}

/// Seconds of it.
const PAST: usize = 290;

/// A shop's bus on a busy day, over the last minutes.
async fn busy(site: &Site, clock: &Past) -> Vec<bus::Joined> {
    let declare = async |name: &str, filter: &str| {
        let group = Group::new(name, filter.parse().unwrap(), Mode::Parallel);
        site.bus.declare_group(group).await.unwrap();
    };
    declare("logger", "DB/*").await;
    declare("notifier", "DB/CREATE").await;
    declare("placement", "ORDER_COMMANDS/PLACE").await;
    let kinds = [
        ("DB", "CREATE", "customers"),
        ("DB", "UPDATE", "carts"),
        ("DB", "UPDATE", "products"),
        ("DB", "UPDATE", "products"),
        ("DB", "DELETE", "carts"),
        ("ORDER_COMMANDS", "PLACE", "orders"),
        ("INVOICES", "CREATED", "invoices"),
        ("INVOICE_COMMANDS", "CREATE", "invoices"),
    ];
    for tick in 0..PAST {
        clock.behind(i64::try_from(PAST - tick).unwrap());
        let of = |number: usize| {
            let (queue, name, kind) = kinds[(number * 5 + tick * 3 + number * tick / 7) % kinds.len()];
            let id = format!("{kind}/0193f2a1-{:04x}-7c{:02x}", (number * 7919) % 65_536, number % 256);
            let mut envelope = event(queue, name, &id);
            envelope.source = format!("/services/{}", kind.trim_end_matches('s'));
            envelope
        };
        let wave = 9.0 + 6.0 * (tick as f64 / 23.0).sin() + ((tick * 37) % 7) as f64;
        site.publish((0..wave as usize).map(of).collect()).await;
    }
    clock.behind(0);
    let claim = Claim { group: "notifier".to_owned(), member: "m1".to_owned(), max: 9, bytes: 1 << 20 };
    let mut leased = site.bus.claim(claim).await.unwrap().leased;
    let dead = leased.split_off(6).into_iter();
    let dead = dead.map(|each| Settlement { token: each.token, verb: Verb::Dead { reason: "refused".to_owned() } });
    site.bus.settle("notifier", dead.collect()).await.unwrap();
    let follow = |name: &str, filter: &str, group: Option<&str>| {
        vec![Subscription { name: name.to_owned(), filter: filter.to_owned(), group: group.map(str::to_owned) }]
    };
    let roster = site.bus.roster();
    let customer = |number: u32| Some(format!("customers/0193f2a1-77{number:02x}-7c41-9d21-3f5e8a7b11{number:02x}"));
    vec![
        roster.join(Transport::WebSocket, customer(1), Some("203.0.113.7".to_owned()), follow("s", "ORDERS/*", None)),
        roster.join(
            Transport::WebSocket,
            customer(2),
            Some("198.51.100.12".to_owned()),
            follow("s", "DB/UPDATE", None),
        ),
        roster.join(Transport::Sse, Some("operators/1".to_owned()), None, follow("s", "DB/*", None)),
        roster.join(Transport::LongPoll, None, Some("192.0.2.4".to_owned()), follow("s", "INVOICES/CREATED", None)),
        roster.join(Transport::Member, None, None, follow("logger", "DB/*", Some("logger"))),
        roster.join(Transport::Member, None, None, follow("notifier", "DB/CREATE", Some("notifier"))),
    ]
}

/// An ops listener whose counters grow with each scrape.
async fn busy_gateway() -> (String, tokio::task::JoinHandle<()>) {
    use axum::{Router, routing::get};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let scrapes = std::sync::atomic::AtomicU64::new(1);
    let scrapes = std::sync::Arc::new(scrapes);
    let metrics = get(async move || {
        let n = scrapes.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let family = "turnpike_gateway";
        let all = n * 180;
        format!(
            "{family}_requests_total{{status_class=\"2xx\"}} {}\n{family}_requests_total{{status_class=\"4xx\"}} {}\n\
             {family}_requests_total{{status_class=\"5xx\"}} {}\n{family}_in_flight 7\n{family}_connections 41\n\
             {family}_request_seconds_bucket{{le=\"0.005\"}} {}\n{family}_request_seconds_bucket{{le=\"0.05\"}} {}\n\
             {family}_request_seconds_bucket{{le=\"+Inf\"}} {all}\n",
            n * 165,
            n * 14,
            n,
            n * 150,
            n * 179
        )
    });
    let router = Router::new().route("/metrics", metrics).route("/readyz", get(async || "{}"));
    (url, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}
