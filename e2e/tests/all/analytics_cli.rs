//! `turnpike analytics`, as an operator types it.

use std::process::Command;

use e2e::{Options, System, binary};
use serde_json::Value;

fn analytics(arguments: &[&str], urls: &[&str]) -> (i32, String, String) {
    let urls = urls.iter().flat_map(|url| ["--url", url]);
    let output = Command::new(binary()).arg("analytics").args(arguments).args(urls).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(arguments: &[&str], urls: &[&str]) -> Value {
    let (code, out, err) = analytics(&[arguments, &["-o", "json"]].concat(), urls);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn an_operator_sees_what_was_asked_for_by_whom_and_how_it_went() {
    let system = System::start(Options::default()).await;
    let client = system.anonymous();
    for _ in 0..5 {
        client.get("/products").await.expect(200);
    }
    for _ in 0..3 {
        client.get("/nowhere").await.expect(404);
    }
    let url = system.env("DEMO_OPS_URL").to_owned();

    let (code, table, error) = analytics(&[], &[&url]);
    assert_eq!(code, 0, "{error}");
    assert!(table.starts_with("ROUTE") && table.contains("none"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");

    let count = |answer: &Value| {
        let routes = answer["routes"].as_array().unwrap();
        routes.iter().find(|route| route["route"] == "none").unwrap()["client_errors"].as_u64().unwrap()
    };
    let one = count(&json(&["routes", "--sort", "p99"], &[&url]));
    assert!(one >= 3, "{one}");
    let two = count(&json(&["routes", "--since", "10m"], &[&url, &url]));
    assert_eq!(two, 2 * one, "two gateways are told of together");

    let clients = json(&["clients", "--by", "errors", "--route", "none"], &[&url]);
    assert_eq!(clients["clients"][0]["client"], "127.0.0.1");
    let series = json(&["errors", "--step", "1m"], &[&url]);
    let missed = |point: &Value| point["statuses"]["404"].as_u64().unwrap_or_default();
    assert_eq!(series["points"].as_array().unwrap().iter().map(missed).sum::<u64>(), one);
    for (arguments, urls, wanted) in [
        (&["errors", "--step", "90s"][..], [&*url], "step: must be whole minutes"),
        (&[][..], ["http://127.0.0.1:1"], "nobody answers at 127.0.0.1:1"),
    ] {
        let (code, _, error) = analytics(arguments, &urls);
        assert!(code == 1 && error.contains(wanted), "{code}: {error}");
    }
}
