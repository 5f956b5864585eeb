//! Who may do what, and what the upstream learns of it.

use std::{path::Path, time::Duration};

use gateway::keys;
use principal::{Issuer, Keys, Principal, Verifier};
use serde_json::Value;
use testkit::eventually;

use crate::running::{Running, echo};

async fn start(folder: &Path) -> (Running, String) {
    let file = folder.join("keys.yaml");
    let key = keys::new(&file, "customers/1", &["shop".to_owned()], None).unwrap();
    let config = format!(
        "authentication: {{api_keys: {{file: '{}'}}}}\n\
         upstreams: {{echo: {{endpoints: ['{}']}}}}\n\
         routes:\n\
         - {{match: {{path: /open}}, proxy: echo}}\n\
         - {{match: {{path: /blind}}, authenticate: none, proxy: echo}}\n\
         - {{match: {{path: /mine}}, authenticate: required, proxy: echo}}\n\
         - {{match: {{path: /shop}}, scopes: {{all: [shop]}}, proxy: echo}}\n\
         - {{match: {{path: /admin}}, scopes: {{any: [admin, root]}}, proxy: echo}}\n",
        file.display(),
        echo().await,
    );
    (Running::start(&config).await, key)
}

fn told(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn a_key_makes_its_caller_known_to_the_upstream_and_goes_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, key) = start(folder.path()).await;
    let bearer = format!("Bearer {key}");
    for header in [("x-api-key", key.as_str()), ("authorization", bearer.as_str())] {
        let answer = gateway.send("GET", "/shop", &[header], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let headers = &told(&answer.body)["headers"];
        assert_eq!((&headers["x-api-key"], &headers["authorization"]), (&Value::Null, &Value::Null));
        let jwks = gateway.ops("/.well-known/jwks.json").await;
        let verifier = Verifier::new(vec![Issuer { name: "gateway".to_owned(), keys: Keys::Inline(jwks) }]);
        let principal = verifier.verify(headers["turnpike-principal"].as_str().unwrap()).await.unwrap();
        let expected =
            Principal { subject: "customers/1".into(), scopes: vec!["shop".into()], claims: Default::default() };
        assert_eq!(principal, expected);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn who_is_not_known_is_401_and_who_may_not_is_403() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, key) = start(folder.path()).await;
    assert_eq!(gateway.get("/open").await.status, 200);
    for path in ["/mine", "/shop", "/admin"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        answer.problem();
    }
    let wrong = gateway.send("GET", "/open", &[("x-api-key", "tk_a_b")], "").await;
    assert_eq!(wrong.status, 401, "a key that is not good is refused even where none is needed");
    let forbidden = gateway.send("GET", "/admin", &[("x-api-key", &key)], "").await;
    assert_eq!(forbidden.status, 403);
    assert!(forbidden.problem()["detail"].as_str().unwrap().contains("admin, root"));
    gateway.stop().await;
}

#[tokio::test]
async fn nobody_can_claim_to_be_a_principal() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, key) = start(folder.path()).await;
    let claim = ("turnpike-principal", "forged");
    for path in ["/open", "/blind"] {
        let answer = gateway.send("GET", path, &[claim], "").await;
        assert_eq!(told(&answer.body)["headers"]["turnpike-principal"], Value::Null, "{path}");
    }
    let answer = gateway.send("GET", "/mine", &[claim, ("x-api-key", &key)], "").await;
    assert_ne!(told(&answer.body)["headers"]["turnpike-principal"], "forged");
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_that_asks_nobody_lets_credentials_pass() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, _) = start(folder.path()).await;
    let answer = gateway.send("GET", "/blind", &[("authorization", "Bearer its-own")], "").await;
    assert_eq!(told(&answer.body)["headers"]["authorization"], "Bearer its-own");
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_is_refused_as_soon_as_its_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, key) = start(folder.path()).await;
    let status = async || gateway.send("GET", "/mine", &[("x-api-key", &key)], "").await.status;
    assert_eq!(status().await, 200);
    let file = folder.path().join("keys.yaml");
    let id = keys::list(&file).unwrap()[0].id.clone();
    let shown = async || gateway.ops("/api-keys").await["keys"][0].clone();
    let before = shown().await;
    assert_eq!((&before["id"], &before["revoked"]), (&id.as_str().into(), &false.into()));
    assert!(before["last_used"].is_string(), "{before}");
    keys::revoke(&file, &id).unwrap();
    eventually("the revoked key is refused", Duration::from_secs(10), async || (status().await == 401).then_some(()))
        .await;
    let after = shown().await;
    assert_eq!(after["revoked"], true);
    assert!(after["last_used"].as_str() >= before["last_used"].as_str(), "it is still known: {after}");
    gateway.stop().await;
}
