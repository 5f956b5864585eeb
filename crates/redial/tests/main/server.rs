//! One server: who is let in, and what becomes of a connection that breaks, or only looks open.

use std::net::SocketAddr;

use redial::{Address, Patience, Redis, Settings};
use testkit::{Certificates, Fault, FaultProxy, RedisOptions, Tls, Way};

use super::{eventually, get, reach, set};

const USER: &str = "shop on >secret ~tp:* &tp:* +@all -@dangerous +info";

async fn refusal(url: &str) -> String {
    let patience = Patience { attempts: 1, ..Patience::default() };
    Redis::connect(Address::parse(url).unwrap(), patience).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_server_with_a_certificate_is_reached_by_who_trusts_its_authority() {
    let certificates = Certificates::make();
    let tls = Some(Tls { certificates: certificates.clone(), mutual: false });
    let server = testkit::Redis::start(RedisOptions { tls, ..RedisOptions::default() }).await;
    let ca = certificates.authority();
    let redis = reach(&format!("{}?ca={}", server.url(), ca.display())).await;
    set(&redis, "a", "1").await.unwrap();
    assert_eq!(server.command(&["GET", "a"]), "1");
    let others = Certificates::make();
    let other = refusal(&format!("{}?ca={}", server.url(), others.authority().display())).await;
    assert!(other.contains("certificate"), "{other}");
    refusal(&server.url().replace("rediss", "redis")).await;
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_and_passwords_lets_in_who_has_both() {
    let certificates = Certificates::make();
    let tls = Some(Tls { certificates: certificates.clone(), mutual: true });
    let users = vec!["default off".to_owned(), USER.to_owned()];
    let server = testkit::Redis::start(RedisOptions { tls, users, ..RedisOptions::default() }).await;
    let (certificate, key) = certificates.client();
    let ca = certificates.authority();
    let host = server.url().replace("rediss://", "");
    let own = format!("certificate={}&key={}", certificate.display(), key.display());
    let redis = reach(&format!("rediss://shop:secret@{host}?ca={}&{own}", ca.display())).await;
    set(&redis, "tp:a", "1").await.unwrap();
    assert_eq!(set(&redis, "other", "1").await.unwrap_err().code(), Some("NOPERM"), "not its keys");
    refusal(&format!("rediss://shop:secret@{host}?ca={}", ca.display())).await;
    let wrong = refusal(&format!("rediss://shop:wrong@{host}?ca={}&{own}", ca.display())).await;
    assert!(!wrong.contains("wrong") || wrong.contains("WRONGPASS"), "{wrong}");
}

#[tokio::test]
async fn a_login_and_certificates_may_stand_beside_the_url() {
    let certificates = Certificates::make();
    let tls = Some(Tls { certificates: certificates.clone(), mutual: true });
    let users = vec!["default off".to_owned(), USER.to_owned()];
    let server = testkit::Redis::start(RedisOptions { tls, users, ..RedisOptions::default() }).await;
    let password = server.folder().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let (certificate, key) = certificates.client();
    let written = serde_json::json!({
        "url": server.url(), "user": "shop", "password_file": password,
        "ca": certificates.authority(), "certificate": certificate, "key": key,
    });
    let settings: Settings = serde_json::from_value(written).unwrap();
    let redis = Redis::connect(settings.address().unwrap(), Patience::default()).await.unwrap();
    set(&redis, "tp:a", "1").await.unwrap();
    let plain: Settings = serde_json::from_value("redis://a:1".into()).unwrap();
    assert_eq!(plain.address().unwrap().to_string(), "redis://a:1");
    let unknown = serde_json::from_value::<Settings>(serde_json::json!({"url": "redis://a", "secret": "x"}));
    assert!(unknown.unwrap_err().to_string().contains("password_file"));
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again_by_whoever_asks_next() {
    let mut server = testkit::redis().await;
    let redis = reach(&server.url()).await;
    set(&redis, "a", "1").await.unwrap();
    server.kill();
    assert!(set(&redis, "a", "2").await.is_err());
    server.restart().await;
    eventually("it is reached again", async || get(&redis, "a").await.is_ok()).await;
    assert_eq!(get(&redis, "a").await.unwrap().as_deref(), Some("1"));
}

#[tokio::test]
async fn a_connection_that_only_looks_open_is_given_up() {
    let server = testkit::redis().await;
    let proxy = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], server.port())), 1).await;
    let redis = reach(&format!("redis://{}", proxy.address())).await;
    proxy.set_both(Fault::Swallow);
    assert!(get(&redis, "a").await.is_err());
    // Connections that have lost something go on losing; a new one is as it should be.
    proxy.set_both(Fault::None);
    eventually("another connection answers", async || get(&redis, "a").await.is_ok()).await;
}

#[tokio::test]
async fn what_was_sent_when_the_connection_broke_is_not_sent_again() {
    let server = testkit::redis().await;
    let proxy = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], server.port())), 1).await;
    let redis = reach(&format!("redis://{}", proxy.address())).await;
    proxy.set(Way::Back, Fault::Swallow);
    let incr = async || redis::cmd("INCR").arg("n").query_async::<u64>(&mut redis.clone()).await;
    assert!(incr().await.is_err());
    proxy.set_both(Fault::None);
    eventually("another connection answers", async || get(&redis, "n").await.is_ok()).await;
    assert_eq!(get(&redis, "n").await.unwrap().as_deref(), Some("1"), "done once, though the answer was lost");
}
