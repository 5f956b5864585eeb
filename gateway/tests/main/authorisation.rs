//! Who may do what: by scopes, claims and subjects, on each route; by which credentials; and what a refusal says.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::{
    issuer::{Answer, Key, Server, claims_with, key_set},
    running::{Running, echo},
    tls::{Authority, Leaf, dial, put},
};

struct Site {
    gateway: Running,
    key: Key,
    api_key: String,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn start(routes: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.yaml");
        let api_key = gateway::keys::new(&file, "users/1", &["read".to_owned(), "write".to_owned()], None).unwrap();
        let key = Key::ed("d");
        let issuer = Server::start(Answer::Keys(key_set(&[&key]))).await;
        let more = ", subject_prefix: users/, claims: [tenant, roles, blocked]";
        let section =
            issuer.section(more).replace("{jwt:", &format!("{{api_keys: {{file: '{}'}}, jwt:", file.display()));
        let upstreams = format!("upstreams: {{echo: {{endpoints: ['{}']}}}}\n", echo().await);
        Self {
            gateway: Running::start(&format!("{section}{upstreams}routes:\n{routes}")).await,
            key,
            api_key,
            _folder: folder,
        }
    }

    async fn ask(&self, path: &str, claims: Value) -> crate::running::Answer {
        let bearer = format!("Bearer {}", self.key.sign(&claims_with(claims)));
        self.gateway.send("GET", path, &[("authorization", &bearer)], "").await
    }

    async fn status(&self, path: &str, claims: Value) -> StatusCode {
        self.ask(path, claims).await.status
    }
}

#[tokio::test]
async fn a_route_is_for_those_who_have_all_that_it_asks() {
    let site = Site::start(
        "- match: {path: /admin}\n  respond: {status: 200}\n  authorise:\n    \
             all: [{scope: write}, {claim: tenant, in: [a, b]}]\n    \
             any: [{claim: roles, has: admin}, {subject: users/root}]\n    not: {claim: blocked, is: 'true'}\n",
    )
    .await;
    let good = json!({"tenant": "a", "roles": ["user", "admin"], "blocked": false});
    assert_eq!(site.status("/admin", good.clone()).await, 200);
    assert_eq!(site.status("/admin", json!({"tenant": "b", "sub": "root"})).await, 200);
    for (name, change) in [
        ("scope", json!({"scope": "read writer"})),
        ("tenant", json!({"tenant": "c"})),
        ("no tenant", json!({"tenant": null})),
        ("role", json!({"roles": ["administrator"]})),
        ("blocked", json!({"blocked": true})),
    ] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(site.status("/admin", claims).await, 403, "{name}");
    }
    assert_eq!(site.gateway.get("/admin").await.status, 401, "who asks for something must know its caller");
    let refused = site.ask("/admin", json!({"tenant": "c"})).await;
    let problem = refused.problem();
    assert_eq!(problem["type"], "https://turnpike.dev/problems/forbidden");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("the scope write") && detail.contains("the claim tenant to be one of (a, b)"), "{detail}");
    assert_eq!(
        refused.header("www-authenticate"),
        "Bearer realm=\"turnpike\", error=\"insufficient_scope\", scope=\"write\""
    );
    let routes = site.gateway.ops("/routes").await;
    assert!(routes["routes"][0]["authorise"].as_str().unwrap().contains("admin in the claim roles"), "{routes}");
    site.gateway.stop().await;
}

#[tokio::test]
async fn a_tenant_sees_its_own() {
    let site = Site::start(
        "- {match: {path: '/tenants/{tenant}/things'}, respond: {status: 200}, authorise: {claim: tenant, is: '{tenant}'}}\n",
    )
    .await;
    assert_eq!(site.status("/tenants/a/things", json!({"tenant": "a"})).await, 200);
    assert_eq!(site.status("/tenants/%61/things", json!({"tenant": "a"})).await, 200, "as it is matched");
    assert_eq!(site.status("/tenants/b/things", json!({"tenant": "a"})).await, 403);
    assert_eq!(site.status("/tenants/a/things", json!({})).await, 403);
    site.gateway.stop().await;
}

#[tokio::test]
async fn scopes_and_requirements_hold_together() {
    let site = Site::start(
        "- {match: {path: /both}, respond: {status: 200}, scopes: {all: [read]}, authorise: {claim: tenant}}\n",
    )
    .await;
    assert_eq!(site.status("/both", json!({"tenant": "a"})).await, 200);
    assert_eq!(site.status("/both", json!({})).await, 403);
    let refused = site.ask("/both", json!({"tenant": "a", "scope": "write"})).await;
    assert_eq!(refused.status, 403);
    assert!(refused.header("www-authenticate").ends_with("scope=\"read\""), "{refused:?}");
    site.gateway.stop().await;
}

#[tokio::test]
async fn a_route_takes_the_credentials_it_names() {
    let site = Site::start(
        "- {match: {path: /tokens}, authenticate: required, credentials: jwt, respond: {status: 200}}\n\
         - {match: {path: /keys}, authenticate: required, credentials: [api_key, session], respond: {status: 200}}\n",
    )
    .await;
    let by_key = async |path: &str| site.gateway.send("GET", path, &[("x-api-key", &site.api_key)], "").await.status;
    assert_eq!(
        (site.status("/tokens", json!({})).await, by_key("/tokens").await),
        (StatusCode::OK, StatusCode::UNAUTHORIZED)
    );
    assert_eq!(
        (site.status("/keys", json!({})).await, by_key("/keys").await),
        (StatusCode::UNAUTHORIZED, StatusCode::OK)
    );
    site.gateway.stop().await;
}

#[tokio::test]
async fn a_credential_goes_on_only_where_the_route_says_so() {
    let site = Site::start(
        "- {match: {path: /plain}, authenticate: required, proxy: echo}\n\
         - {match: {path: /trusted}, authenticate: required, forward_credentials: true, proxy: echo}\n",
    )
    .await;
    for (path, goes_on) in [("/plain", false), ("/trusted", true)] {
        let headers = [("x-api-key", site.api_key.as_str()), ("turnpike-principal", "forged")];
        let answer = site.gateway.send("GET", path, &headers, "").await;
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told["headers"]["x-api-key"] == site.api_key.as_str(), goes_on, "{told}");
        let by_token: Value = serde_json::from_str(&site.ask(path, json!({})).await.body).unwrap();
        assert_eq!(by_token["headers"]["authorization"].is_string(), goes_on, "{by_token}");
        for told in [told, by_token] {
            assert_eq!(told["headers"]["turnpike-principal"].as_str().unwrap().split('.').count(), 3, "signed by us");
        }
    }
    site.gateway.stop().await;
}

#[tokio::test]
async fn a_client_certificate_makes_its_holder_known_where_there_is_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    put(folder.path(), "a", &servers.leaf(&["a.test"]));
    std::fs::write(folder.path().join("ca.pem"), clients.pem()).unwrap();
    let keys = folder.path().join("keys.yaml");
    let api_key = gateway::keys::new(&keys, "users/1", &["feed".to_owned()], None).unwrap();
    let text = format!(
        "listeners: [{{address: '127.0.0.1:0', tls: {{certificate: a.pem, key: a.key, client: {{ca: ca.pem, mode: optional}}}}}}]\n\
         access_log: false\n\
         authentication: {{api_keys: {{file: keys.yaml}}, mtls: {{subject_prefix: machines/, scopes: [feed]}}}}\n\
         upstreams: {{echo: {{endpoints: ['{}']}}}}\n\
         routes:\n- {{match: {{path: /feed}}, scopes: {{all: [feed]}}, proxy: echo}}\n\
         - {{match: {{path: /keys}}, authenticate: required, credentials: api_key, proxy: echo}}\n",
        echo().await,
    );
    std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
    let gateway = Running::watching(&folder.path().join("gateway.yaml")).await;
    let send = async |method: &str, shown: Option<&Leaf>, path: &str, headers: &[(&str, &str)]| {
        let stream = dial(&gateway, servers.client(shown), "a.test").await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "a.test");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let status = response.status();
        let told: Value =
            serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap_or_default();
        (status, subject(&told))
    };
    let ask =
        async |shown: Option<&Leaf>, path: &str, headers: &[(&str, &str)]| send("GET", shown, path, headers).await;
    let till = clients.leaf(&["till-7.test"]);
    let known = Some("machines/till-7.test".to_owned());
    assert_eq!(ask(Some(&till), "/feed", &[]).await, (StatusCode::OK, known.clone()));
    assert_eq!(ask(Some(&till), "/feed", &[]).await, (StatusCode::OK, known));
    assert_eq!(ask(None, "/feed", &[]).await.0, 401);
    let key = [("x-api-key", api_key.as_str())];
    assert_eq!(
        ask(Some(&till), "/feed", &key).await,
        (StatusCode::OK, Some("users/1".to_owned())),
        "what is shown goes first"
    );
    assert_eq!(ask(Some(&till), "/feed", &[("x-api-key", "tk_a_b")]).await.0, 401);
    assert_eq!(ask(Some(&till), "/keys", &[]).await.0, 401, "not every route takes one");
    // A browser shows a certificate to whatever page asks.
    let post = async |headers: &[(&str, &str)]| send("POST", Some(&till), "/feed", headers).await.0;
    assert_eq!(post(&[("origin", "https://evil.test"), ("sec-fetch-site", "cross-site")]).await, 403);
    assert_eq!(post(&[("origin", "https://evil.test")]).await, 403);
    assert_eq!((post(&[("origin", "https://a.test")]).await, post(&[]).await), (StatusCode::OK, StatusCode::OK));
    gateway.stop().await;
}

/// Whom the upstream was told of.
fn subject(told: &Value) -> Option<String> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let token = told["headers"]["turnpike-principal"].as_str()?;
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&claims).ok()?["sub"].as_str().map(str::to_owned)
}

#[test]
fn what_makes_no_sense_is_a_fault_where_it_stands() {
    let check = |route: &str| {
        let text = format!(
            "listeners: [{{address: '127.0.0.1:0'}}]\nroutes: [{{match: {{path: '/a/{{id}}'}}, respond: {{status: 200}}, {route}}}]"
        );
        let errors = gateway::check(&text, &gateway::Properties::new(), None, &Default::default()).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for (route, fault) in [
        ("authorise: {}", "routes[0].authorise: asks for nothing"),
        (
            "authorise: {all: [{scope: a}, {is: b}]}",
            "routes[0].authorise.all[1]: `is`, `in` and `has` are of a `claim`",
        ),
        ("authorise: {claim: a, is: '{tenant}'}", "routes[0].authorise: /a/{id} has no variable {tenant}"),
        ("authorise: {scope: a}, authenticate: optional", "routes[0].authorise: only a caller who must be known"),
        ("credentials: []", "routes[0].credentials: names none"),
        ("authorise: {scop: a}", "scop"),
    ] {
        let errors = check(route);
        assert!(errors.contains(fault), "{route}: {errors}");
    }
}
