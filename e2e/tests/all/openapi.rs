//! The shop's OpenAPI document: what those who wrote none of it make of it. A validator takes it, a client that is generated
//! from it orders, and a browser shows it and asks by it.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use e2e::{Options, System};
use serde_json::Value;
use testkit::{Browser, check_openapi, openapi_tool};

#[tokio::test]
async fn the_document_is_valid_and_is_what_the_command_prints() {
    let system = System::start(Options::default()).await;
    let answer = system.anonymous().get("/openapi.json").await.expect(200);
    let live = answer.json();
    assert!(check_openapi(&live.to_string()) > 100);

    let printed = print(&[]);
    assert_eq!(serde_json::from_slice::<Value>(&printed.stdout).unwrap(), live);
    let yaml = String::from_utf8(print(&["--output", "yaml"]).stdout).unwrap();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), live);

    let etag = answer.header("etag").unwrap();
    system.anonymous().with("if-none-match", etag).get("/openapi.json").await.expect(304);
}

#[tokio::test]
async fn every_route_stands_in_the_document_and_nothing_else() {
    let system = System::start(Options::default()).await;
    let document = system.anonymous().get("/openapi.json").await.expect(200).json();
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let described: BTreeSet<String> =
        operations.map(|operation| operation["x-turnpike-route"].as_str().unwrap().to_owned()).collect();
    let routes = system.ops().get("/routes").await.expect(200).json();
    let routes = routes["routes"].as_array().unwrap().iter();
    let routes =
        routes.filter(|route| route["action"] != "document").map(|route| route["id"].as_str().unwrap().to_owned());
    assert_eq!(described, routes.collect());
}

#[tokio::test]
async fn a_client_that_is_generated_from_it_orders() {
    let system = System::start(Options::default()).await;
    let document = system.anonymous().get("/openapi.json").await.expect(200);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("openapi.json"), &document.body).unwrap();
    let generated = Command::new(openapi_tool("openapi-python-client"))
        .args(["generate", "--path", "openapi.json", "--output-path", "client", "--meta", "none"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(generated.status.success(), "{}", said(&generated));
    let shopped = Command::new(openapi_tool("python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/shopper.py"))
        .arg(system.env("DEMO_URL"))
        .env("PYTHONPATH", folder.path())
        .output()
        .unwrap();
    assert!(shopped.status.success(), "{}", said(&shopped));
    assert!(said(&shopped).contains("ordered "), "{}", said(&shopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_reads_the_page_and_tries_it_out() {
    let system = System::start(Options::default()).await;
    let page = system.anonymous().get("/docs").await.expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");

    let mut browser = testkit::browser().await;
    browser.viewport(1440, 1000).await;
    browser.navigate(&format!("{}/docs#tag/cart/GET/cart", system.env("DEMO_URL"))).await;
    browser.until(&shown("h1", "The shop")).await;
    browser.until(&shown("h3", "Get the cart")).await;
    keep(&mut browser, "docs-light").await;

    // As a hand does it: the operation's button, the key into its field, Send.
    click(&mut browser, "button", "Test Request(get /cart)").await;
    browser.until(&format!("!!{KEY}")).await;
    browser.evaluate(&format!("{KEY}.focus()")).await;
    browser.write(system.env("DEMO_API_KEY")).await;
    click(&mut browser, "button", "Send").await;
    let answered = "(text => /\\b200 OK\\b/.test(text) && /Response Body/.test(text))(document.querySelector('[role=dialog]').innerText)";
    browser.until(answered).await;
    keep(&mut browser, "docs-tried").await;
    assert_eq!(browser.faults().await, Vec::<String>::new());

    browser.color_scheme("dark").await;
    browser.viewport(390, 844).await;
    browser.navigate(&format!("{}/docs?phone#tag/product/POST/products", system.env("DEMO_URL"))).await;
    browser.until(&shown("h3", "Create a product")).await;
    browser.until("document.body.classList.contains('dark-mode')").await;
    assert_eq!(
        browser.evaluate("document.documentElement.scrollWidth <= innerWidth").await,
        true,
        "it scrolls sideways"
    );
    keep(&mut browser, "docs-dark-phone").await;
    assert_eq!(browser.faults().await, Vec::<String>::new());
}

/// Where the page takes the key.
const KEY: &str = "document.querySelector('[role=dialog] input:not([type=checkbox])')";

fn shown(element: &str, text: &str) -> String {
    format!("[...document.querySelectorAll('{element}')].some(one => one.textContent.trim().startsWith('{text}'))")
}

async fn click(browser: &mut Browser, element: &str, text: &str) {
    let found = format!(
        "[...document.querySelectorAll('{element}')].find(one => one.textContent.replace(/\\s+/g, ' ').trim().startsWith('{text}'))"
    );
    browser.until(&format!("!!{found}")).await;
    browser.evaluate(&format!("{found}.click()")).await;
}

/// Where somebody wants to see it, a picture of the page is left there.
async fn keep(browser: &mut Browser, name: &str) {
    if let Ok(folder) = std::env::var("SCREENSHOTS") {
        fs::write(Path::new(&folder).join(format!("{name}.png")), browser.screenshot(false).await).unwrap();
    }
}

/// `turnpike openapi` of the shop's configuration.
fn print(arguments: &[&str]) -> Output {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/gateway.yaml");
    let output = Command::new(e2e::binary()).arg("openapi").arg(file).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    output
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
