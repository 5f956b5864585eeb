//! What is revoked on the bus is refused by every gateway that follows it.

use std::time::{Duration, Instant};

use bus::Bus;
use events::{Envelope, Name};
use serde_json::{Value, json};
use testkit::eventually;
use time::OffsetDateTime;

use crate::{
    issuer::{ISSUER, Key, claims_with, key_set},
    library::Library,
    running::Running,
    session::{GOOD, authenticator},
};

const BOUND: Duration = Duration::from_secs(30);

/// Gateways with a key file, an issuer and sessions.
struct Site {
    folder: tempfile::TempDir,
    customers: Library,
    key: Key,
}

/// What a caller shows: a header field.
type Credential = (&'static str, String);

impl Site {
    async fn new() -> Self {
        let (folder, key) = (tempfile::tempdir().unwrap(), Key::ed("d"));
        std::fs::write(folder.path().join("jwks.json"), key_set(&[&key]).to_string()).unwrap();
        Self { folder, customers: authenticator().await, key }
    }

    fn sections(&self, revocation: &str) -> String {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        format!(
            "authentication:\n  api_keys: {{file: '{}'}}\n  jwt: {{issuer: '{ISSUER}', audience: api, jwks_file: '{}'}}\n  \
             session: {{upstream: customers}}\n  revocation: {revocation}\n\
             upstreams: {{customers: {{endpoints: ['{}'], protocol: grpc}}}}\n\
             routes: [{{match: {{path: /mine}}, authenticate: required, respond: {{status: 200, body: mine}}}}]\n",
            path("keys.yaml"),
            path("jwks.json"),
            self.customers.address,
        )
    }

    fn api_key(&self, subject: &str) -> (Credential, String) {
        let file = self.folder.path().join("keys.yaml");
        let text = gateway::keys::new(&file, subject, &[], None).unwrap();
        let id = gateway::keys::list(&file).unwrap().last().unwrap().id.clone();
        (("x-api-key", text), id)
    }

    fn token(&self, subject: &str, id: &str) -> Credential {
        ("authorization", format!("Bearer {}", self.key.sign(&claims_with(json!({"sub": subject, "jti": id})))))
    }
}

async fn log_in(gateway: &Running) -> Credential {
    let answer = gateway.send("POST", "/session", &[("content-type", "application/json")], GOOD).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    ("cookie", answer.header("set-cookie").split(';').next().unwrap().to_owned())
}

async fn good(gateway: &Running, (name, value): &Credential) -> bool {
    let answer = gateway.send("GET", "/mine", &[(name, value)], "").await;
    assert!([200, 401].contains(&answer.status.as_u16()), "{answer:?}");
    answer.status == 200
}

async fn publish(bus: &Bus, data: Value) {
    let event = Envelope::new("/operators/1", Name::new("AUTH").unwrap(), Name::new("REVOKE").unwrap()).data(data);
    bus.publish(vec![event]).await.unwrap().remove(0).unwrap();
}

/// Revokes, and returns how long it took until every gateway refused what is no longer good.
async fn revoke(bus: &Bus, gateways: &[&Running], data: Value, credential: &Credential) -> Duration {
    for gateway in gateways {
        assert!(good(gateway, credential).await, "good before it is revoked");
    }
    publish(bus, data.clone()).await;
    let start = Instant::now();
    for gateway in gateways {
        eventually("it is refused", BOUND, async || (!good(gateway, credential).await).then_some(())).await;
    }
    let took = start.elapsed();
    println!("{data}: refused by {} gateways after {took:?}", gateways.len());
    took
}

/// Waits for the clock's next second: tokens say no finer when they were issued.
async fn next_second() {
    let second = || OffsetDateTime::now_utc().unix_timestamp();
    let now = second();
    eventually("the second is over", BOUND, async || (second() > now).then_some(())).await;
}

#[tokio::test]
async fn what_is_revoked_is_refused_by_every_gateway() {
    let (redis, site) = (testkit::redis().await, Site::new().await);
    let ((key, id), (kept, _)) = (site.api_key("users/1"), site.api_key("users/2"));
    let sections =
        format!("shared: {{redis: '{}', timeout: 10s, limit_timeout: 10s}}\n{}", redis.url(), site.sections("{}"));
    let gateways = [Running::start(&sections).await, Running::start(&sections).await, Running::start(&sections).await];
    let all: Vec<&Running> = gateways.iter().collect();
    let bus = bus::redis::open(&redis.url()).await.unwrap();

    revoke(&bus, &all, json!({"key": id}), &key).await;
    revoke(&bus, &all, json!({"token": "j1"}), &site.token("users/3", "j1")).await;
    revoke(&bus, &all, json!({"token": "j2", "issuer": ISSUER}), &site.token("users/3", "j2")).await;

    let (session, other) = (log_in(all[0]).await, log_in(all[1]).await);
    let listed = all[2].ops("/sessions").await;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 2, "{listed}");
    let secret = session.1.split_once('=').unwrap().1;
    assert!(!listed.to_string().contains(secret));
    let id = {
        use base64::Engine as _;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
    };
    revoke(&bus, &all, json!({"session": id}), &session).await;
    eventually("it is removed", BOUND, async || {
        (all[2].ops("/sessions").await["sessions"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;

    // A subject, with all that it was given.
    let token = site.token("customers/1", "j3");
    next_second().await;
    revoke(&bus, &all, json!({"subject": "customers/1"}), &token).await;
    for gateway in &all {
        assert!(!good(gateway, &other).await, "its session, too");
        assert!(good(gateway, &kept).await, "nobody else's");
    }
    next_second().await;
    let (again, anew) = (log_in(all[0]).await, site.token("customers/1", "j4"));
    for gateway in &all {
        assert!(good(gateway, &again).await && good(gateway, &anew).await, "what is given out later counts");
        let shown = gateway.ops("/revocations").await;
        assert_eq!((&shown["standing"]["following"], &shown["kept"]), (&true.into(), &5.into()), "{shown}");
    }

    // One that starts later knows what the others know.
    let late = Running::start(&sections).await;
    for credential in [&key, &token, &site.token("users/3", "j1"), &session] {
        assert!(!good(&late, credential).await, "{}", credential.0);
    }
    assert!(good(&late, &kept).await);
    late.stop().await;
    for gateway in gateways {
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_gateway_follows_the_bus_in_its_own_process() {
    let site = Site::new().await;
    let (key, id) = site.api_key("users/1");
    let bus = bus::sqlite::open(&site.folder.path().join("bus.db")).await.unwrap();
    // What makes no sense revokes nothing, and what is of no use is passed over.
    for nonsense in [json!({}), json!("all"), json!({"key": ""}), json!({"subjects": "users/1"})] {
        publish(&bus, nonsense).await;
    }
    let gateway = Running::beside(bus.clone(), &site.sections("{queue: AUTH}")).await;
    assert_eq!(gateway.ops("/revocations").await["standing"]["unreadable"], 4);
    revoke(&bus, &[&gateway], json!({"key": id}), &key).await;
    let refused = gateway.send("GET", "/mine", &[(key.0, &key.1)], "").await;
    assert!(refused.header("www-authenticate").contains("error=\"invalid_token\""), "{refused:?}");
    gateway.stop().await;
    let again = Running::beside(bus, &site.sections("{queue: AUTH}")).await;
    assert!(!good(&again, &key).await, "a gateway that starts again has not forgotten");
    again.stop().await;
}

#[tokio::test]
async fn a_bus_that_is_away_holds_nobody_up_and_is_read_again_when_it_is_back() {
    let (mut redis, site) = (testkit::redis().await, Site::new().await);
    let ((first, first_id), (second, second_id)) = (site.api_key("users/1"), site.api_key("users/2"));
    let sections = site.sections(&format!("{{redis: '{}'}}", redis.url()));
    let gateway = Running::start(&sections).await;
    {
        let bus = bus::redis::open(&redis.url()).await.unwrap();
        revoke(&bus, &[&gateway], json!({"key": first_id}), &first).await;
    }
    redis.kill();
    eventually("it shows", BOUND, async || {
        (gateway.ops("/revocations").await["standing"]["following"] == false).then_some(())
    })
    .await;
    assert!(good(&gateway, &second).await && !good(&gateway, &first).await, "what is known counts");
    redis.restart().await;
    let bus = eventually("the bus opens", BOUND, async || bus::redis::open(&redis.url()).await.ok()).await;
    revoke(&bus, &[&gateway], json!({"key": second_id}), &second).await;
    assert!(!good(&gateway, &first).await);
    assert_eq!(gateway.ops("/revocations").await["standing"]["following"], true);
    gateway.stop().await;
}

#[tokio::test]
async fn a_session_that_was_revoked_while_no_gateway_ran_is_nobodys() {
    let (redis, site) = (testkit::redis().await, Site::new().await);
    let sections =
        format!("shared: {{redis: '{}', timeout: 10s, limit_timeout: 10s}}\n{}", redis.url(), site.sections("{}"));
    let gateway = Running::start(&sections).await;
    let (name, cookie) = log_in(&gateway).await;
    assert_eq!(gateway.send("GET", "/session", &[(name, &cookie)], "").await.status, 200);
    gateway.stop().await;
    publish(&bus::redis::open(&redis.url()).await.unwrap(), json!({"subject": "customers/1"})).await;
    let again = Running::start(&sections).await;
    assert_eq!(again.send("GET", "/session", &[(name, &cookie)], "").await.status, 401, "nor is told whose it was");
    assert_eq!(again.ops("/sessions").await["sessions"], json!([]));
    again.stop().await;
}

#[tokio::test]
async fn a_user_logs_out_everywhere() {
    let site = Site::new().await;
    let gateway = Running::start(&site.sections("{}")).await;
    let (here, there) = (log_in(&gateway).await, log_in(&gateway).await);
    assert!(good(&gateway, &here).await && good(&gateway, &there).await);
    let unknown = gateway.send("DELETE", "/session?every=true", &[(here.0, &here.1)], "").await;
    assert_eq!(unknown.status, 400);
    let gone = gateway.send("DELETE", "/session?all=true", &[(here.0, &here.1)], "").await;
    assert_eq!(gone.status, 204, "{gone:?}");
    assert!(gone.header("set-cookie").contains("Max-Age=0"));
    assert!(!good(&gateway, &here).await && !good(&gateway, &there).await);
    assert_eq!(gateway.send("DELETE", "/session?all=true", &[(here.0, &here.1)], "").await.status, 401);
    gateway.stop().await;
}
