//! `turnpike key revoke` and `turnpike revoke`, as an operator types them beside a running system.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use e2e::{Client, Options, System, binary};
use serde_json::{Value, json};
use testkit::eventually;

const BOUND: Duration = Duration::from_secs(20);

fn turnpike(system: &System, arguments: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    for name in ["DEMO_URL", "DEMO_OPERATOR_EMAIL", "DEMO_OPERATOR_PASSWORD", "TURNPIKE_API_KEY"] {
        command.env_remove(name);
    }
    if arguments[0] == "key" {
        command.arg("--file").arg(system.folder().join("keys.yaml"));
    }
    if arguments.contains(&"revoke") {
        command.arg("--data-dir").arg(system.folder());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn refused(client: &Client) {
    eventually("it is refused", BOUND, async || (client.get("/cart").await.status == 401).then_some(())).await;
}

#[tokio::test]
async fn what_an_operator_revokes_is_refused() {
    let system = System::start(Options::default()).await;
    let made = turnpike(&system, &["key", "new", "--subject", "customers/demo", "--scope", "shop"]);
    let with_key = system.anonymous().with("x-api-key", &made);
    eventually("the key is known", BOUND, async || (with_key.get("/cart").await.status == 200).then_some(())).await;
    let id = made.split('_').nth(1).unwrap();
    // In place of it, for as long as it takes to change over.
    let rotated = turnpike(&system, &["key", "rotate", "--overlap", "1h", id]);
    let with_new = system.anonymous().with("x-api-key", &rotated);
    eventually("the new one is known", BOUND, async || (with_new.get("/cart").await.status == 200).then_some(())).await;
    with_key.get("/cart").await.expect(200);
    assert!(turnpike(&system, &["key", "revoke", id]).contains("every gateway"));
    refused(&with_key).await;
    with_new.get("/cart").await.expect(200);

    let (ada, bob) = (system.customer("ada@example.com").await, system.customer("bob@example.com").await);
    let of =
        async |client: &Client| client.get("/session").await.expect(200).json()["subject"].as_str().unwrap().to_owned();
    let (ada_is, bob_is) = (of(&ada).await, of(&bob).await);
    let listed = system.ops().get("/sessions").await.expect(200).json();
    let session = listed["sessions"].as_array().unwrap().iter().find(|session| session["subject"] == ada_is.as_str());
    turnpike(&system, &["revoke", "session", session.unwrap()["id"].as_str().unwrap()]);
    refused(&ada).await;
    bob.get("/cart").await.expect(200);
    turnpike(&system, &["revoke", "subject", &bob_is]);
    refused(&bob).await;
    let shown = system.ops().get("/revocations").await.expect(200).json();
    assert_eq!((&shown["kept"], &shown["standing"]["following"]), (&Value::from(3), &Value::from(true)), "{shown}");

    // Nobody else may.
    let eve = system.customer("eve@example.com").await;
    eve.post("/events/AUTH/REVOKE", json!({"subject": "operators/1"})).await.problem(403);
}
