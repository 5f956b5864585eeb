//! The operator's page through the gateway: a stranger opens it, signs in on it, and it lives.

use e2e::{Options, System};
use serde_json::json;
use testkit::Browser;

const COUNT: &str =
    "Number((document.querySelector('[data-testid=\"count-DB-CREATE\"]')?.textContent ?? '').replace(/\\D/g, ''))";
const PASSWORD: &str = "correct horse battery";

async fn asks(browser: &mut Browser, title: &str) {
    let asks = "document.getElementById('sign-in-dialog').open && \
                document.getElementById('sign-in-title').textContent";
    browser.until(&format!("({asks}) === '{title}'")).await;
}

async fn link(browser: &mut Browser, state: &str) {
    browser.until(&format!("document.querySelector('[data-testid=link]').dataset.state === '{state}'")).await;
}

/// As a hand does it: the focus is in the first field, Tab leads on, Enter sends.
async fn sign_in(browser: &mut Browser, email: &str, password: &str) {
    browser.until("document.activeElement?.name === 'email'").await;
    browser.write(email).await;
    browser.press("Tab").await;
    browser.until("document.activeElement?.name === 'password'").await;
    browser.write(password).await;
    browser.press("Enter").await;
}

async fn sign_up(system: &System, email: &str) {
    let account = json!({"email": email, "password": PASSWORD, "name": "A Customer"});
    system.anonymous().post("/accounts", account).await.expect(201);
}

/// A browser tells every 401 and 403 as an error; anything else is a fault of the page.
async fn nothing_but_refusals(browser: &mut Browser) {
    let faults = browser.faults().await;
    let refused = |fault: &&String| fault.contains("status of 401") || fault.contains("status of 403");
    assert!(faults.iter().all(|fault| refused(&fault)), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_signs_in_on_the_page_and_it_lives() {
    let system = System::start(Options::default()).await;
    sign_up(&system, "customer@example.com").await;
    let mut browser = testkit::browser().await;
    browser.viewport(1440, 900).await;
    browser.navigate(&format!("{}/dashboard", system.env("DEMO_URL"))).await;
    asks(&mut browser, "Sign in").await;

    sign_in(&mut browser, "customer@example.com", "something else").await;
    browser.until("document.getElementById('sign-in-fault').textContent !== ''").await;
    assert_eq!(browser.evaluate("document.getElementById('sign-in-dialog').open").await, true);
    browser.evaluate("document.getElementById('sign-in-form').reset()").await;
    browser.evaluate("document.querySelector('#sign-in-form [name=email]').focus()").await;

    sign_in(&mut browser, "customer@example.com", PASSWORD).await;
    link(&mut browser, "refused").await;
    asks(&mut browser, "No permission").await;
    nothing_but_refusals(&mut browser).await;

    sign_in(&mut browser, system.env("DEMO_OPERATOR_EMAIL"), system.env("DEMO_OPERATOR_PASSWORD")).await;
    link(&mut browser, "live").await;
    browser.until("!document.getElementById('sign-in-dialog').open").await;
    browser.until("document.getElementById('sign-in').hidden").await;

    browser.evaluate("window.untouched = true").await;
    let before = browser.until(&format!("{COUNT} || null")).await.as_u64().unwrap();
    sign_up(&system, "another@example.com").await;
    browser.until(&format!("{COUNT} > {before}")).await;
    assert_eq!(browser.evaluate("window.untouched").await, true, "it was loaded again");
    assert_eq!(browser.faults().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_for_everyone_and_every_figure_for_operators() {
    let system = System::start(Options::default()).await;
    let (stranger, customer) = (system.anonymous(), system.customer("customer@example.com").await);
    let operator = system.operator().await;
    let page = stranger.get("/dashboard").await.expect(200);
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let text = String::from_utf8_lossy(&page.body);
    let asset = text.split('"').find(|part| part.starts_with("/dashboard/assets/")).unwrap();
    stranger.get(asset).await.expect(200);
    for path in ["/dashboard/snapshot", "/dashboard/stream", "/dashboard/events/DB/0/1"] {
        stranger.get(path).await.problem(401);
        customer.get(path).await.problem(403);
    }
    operator.get("/dashboard/snapshot").await.expect(200);
    operator.get("/dashboard/events/DB/0/1").await.expect(200);
}
