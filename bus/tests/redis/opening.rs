//! What a server must be, and what it can confirm.

use bus::{
    Confirm, Error, PublishOptions,
    redis::{Level, Options},
};
use testkit::{Aof, Redis, RedisOptions};

use super::command;
use crate::conformance::{ack, claim, declare, event, publish};

async fn refusal(server: &Redis) -> String {
    match bus::redis::open(&server.url()).await {
        Ok(_) => panic!("opened"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn a_server_that_evicts_keys_is_refused() {
    let settings = vec![("maxmemory-policy", "allkeys-lru".to_owned())];
    let server = Redis::start(RedisOptions { settings, ..RedisOptions::default() }).await;
    let refusal = refusal(&server).await;
    assert!(refusal.contains("allkeys-lru") && refusal.contains("noeviction"), "{refusal}");
}

#[tokio::test]
async fn a_replica_is_refused() {
    let primary = testkit::redis().await;
    let settings = vec![("replicaof", format!("127.0.0.1 {}", primary.port()))];
    let replica = Redis::start(RedisOptions { settings, ..RedisOptions::default() }).await;
    let refusal = refusal(&replica).await;
    assert!(refusal.contains("primary"), "{refusal}");
}

#[tokio::test]
async fn nobody_there_is_told() {
    let mut server = testkit::redis().await;
    server.kill();
    let refusal = refusal(&server).await;
    assert!(refusal.contains("doesn't answer"), "{refusal}");
}

#[tokio::test]
async fn a_namespace_that_would_break_keys_is_refused() {
    let server = testkit::redis().await;
    let options = Options { namespace: "a{b".to_owned(), ..Options::default() };
    let Err(error) = bus::redis::open_with(&server.url(), options).await else { panic!("opened") };
    assert!(error.to_string().starts_with("namespace"), "{error:#}");
}

#[tokio::test]
async fn what_is_not_on_disk_is_not_confirmed_as_if_it_were() {
    let server = Redis::start(RedisOptions { aof: Aof::EverySecond, ..RedisOptions::default() }).await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    let options = PublishOptions { confirm: Confirm::Fsynced, ..PublishOptions::default() };
    match bus.publish_with(vec![event("a", "k")], options).await {
        Err(Error::NotGiven(sentence)) => assert!(sentence.contains("appendfsync"), "{sentence}"),
        other => panic!("confirmed: {other:?}"),
    }
    assert!(bus.queues().await.unwrap().is_empty(), "nothing was recorded");
}

#[tokio::test]
async fn two_namespaces_on_one_server_are_two_buses() {
    let server = testkit::redis().await;
    let ours = bus::redis::open(&server.url()).await.unwrap();
    let options = Options { namespace: "theirs".to_owned(), ..Options::default() };
    let theirs = bus::redis::open_with(&server.url(), options).await.unwrap();
    ours.publish(vec![event("a", "k")]).await.unwrap();
    assert!(theirs.queues().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_user_who_may_do_nothing_dangerous_but_ask_about_the_server_is_enough() {
    let server = testkit::redis().await;
    let rules = ["on", ">secret", "~tp:*", "&tp:*", "+@all", "-@dangerous", "+info"];
    command(&server, &[&["ACL", "SETUSER", "shop"], &rules[..]].concat()).await;
    let bus = bus::redis::open(&server.url().replace("redis://", "redis://shop:secret@")).await.unwrap();
    assert_eq!(publish(&bus, &[("a", "k")]).await[0].position, Some(1));
    // Who may not look can't promise.
    let options = PublishOptions { confirm: Confirm::Fsynced, ..PublishOptions::default() };
    assert!(matches!(bus.publish_with(vec![event("b", "k")], options).await, Err(Error::NotGiven(_))));
}

#[tokio::test]
async fn a_user_with_a_certificate_and_a_password_publishes_and_consumes() {
    let certificates = testkit::Certificates::make();
    let tls = Some(testkit::Tls { certificates: certificates.clone(), mutual: true });
    let users = vec!["default off".to_owned(), "shop on >secret ~tp:* &tp:* +@all -@dangerous +info".to_owned()];
    let server = Redis::start(RedisOptions { tls, users, ..RedisOptions::default() }).await;
    let (certificate, key) = certificates.client();
    let url = format!(
        "{}?ca={}&certificate={}&key={}",
        server.url().replace("rediss://", "rediss://shop:secret@"),
        certificates.authority().display(),
        certificate.display(),
        key.display()
    );
    let bus = bus::redis::open(&url).await.unwrap();
    declare(&bus, "g", bus::Mode::Keyed).await;
    publish(&bus, &[("a", "k")]).await;
    ack(&bus, "g", &claim(&bus, "g", 1).await).await;
    let findings = bus::redis::examine(&url, "tp").await;
    assert!(findings.iter().all(|finding| finding.level < Level::Fault), "{findings:?}");
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_with_the_rule_that_gives_it() {
    for (rules, named) in [
        ("~tp:* &tp:* +@all -@dangerous +info -xadd", "XADD"),
        ("~tp:* &tp:* +@all -@dangerous +info -zremrangebyscore", "ZREMRANGEBYSCORE"),
        ("~tp:* &other +@all -@dangerous +info", "PUBLISH"),
        ("~other:* &tp:* +@all -@dangerous +info", "tp:"),
        ("~tp:* &tp:* +@all -@dangerous", "info"),
    ] {
        let users = vec![format!("shop on >secret {rules}")];
        let server = Redis::start(RedisOptions { users, ..RedisOptions::default() }).await;
        let url = server.url().replace("redis://", "redis://shop:secret@");
        let Err(error) = bus::redis::open(&url).await else { panic!("opened with {rules}") };
        let error = format!("{error:#}");
        assert!(error.to_lowercase().contains(&named.to_lowercase()) && error.contains("+info"), "{rules}: {error}");
    }
}

#[tokio::test]
async fn a_user_is_judged_by_the_namespace_that_is_asked_about() {
    let users = vec!["shop on >secret ~shop:* &shop:* +@all -@dangerous +info".to_owned()];
    let server = Redis::start(RedisOptions { users, ..RedisOptions::default() }).await;
    let url = server.url().replace("redis://", "redis://shop:secret@");
    let own = bus::redis::examine(&url, "shop").await;
    assert!(own.iter().all(|finding| finding.level < Level::Fault), "{own:?}");
    let other = bus::redis::examine(&url, "tp").await;
    let denied = other.iter().find(|finding| finding.level == Level::Fault).unwrap();
    assert!(denied.guard == "rights" && denied.advice.contains("~tp:* &tp:*"), "{denied:?}");
}

#[tokio::test]
async fn a_server_that_begins_to_evict_is_published_to_no_more() {
    let server = testkit::redis().await;
    let backend = bus::redis::Redis::open(&server.url(), Options::default()).await.unwrap();
    let bus = bus::Bus::new(backend.clone());
    publish(&bus, &[("a", "k")]).await;
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    backend.housekeep().await.unwrap();
    match bus.publish(vec![event("b", "k")]).await {
        Err(Error::Unavailable(why)) => assert!(why.contains("allkeys-lru") && why.contains("noeviction"), "{why}"),
        other => panic!("confirmed: {other:?}"),
    }
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    backend.housekeep().await.unwrap();
    assert_eq!(publish(&bus, &[("b", "k")]).await[0].position, Some(2));
}

#[tokio::test]
async fn an_operator_is_told_what_is_so_and_what_to_do() {
    let settings = vec![("maxmemory", "4gb".to_owned())];
    let server = Redis::start(RedisOptions { aof: Aof::Off, settings, ..RedisOptions::default() }).await;
    let findings = bus::redis::examine(&server.url(), "tp").await;
    let of = |guard: &str| findings.iter().find(|finding| finding.guard == guard).unwrap();
    assert_eq!((of("reach").level, of("version").level, of("rights").level), (Level::Fine, Level::Fine, Level::Fine));
    assert_eq!((of("persistence").level, of("clock").level), (Level::Warning, Level::Fine));
    assert!(of("persistence").advice.contains("appendonly") && of("memory").what.contains("4096 MiB"), "{findings:?}");
    let nobody = bus::redis::examine("redis://:secret@127.0.0.1:1", "tp").await;
    assert!(
        matches!(nobody.as_slice(), [finding] if finding.level == Level::Fault && !finding.what.contains("secret"))
    );
    let cluster = testkit::RedisCluster::start(0, RedisOptions::default()).await;
    let one = bus::redis::examine(&cluster.nodes[0].url(), "tp").await;
    assert!(
        one.iter().any(|finding| finding.guard == "cluster" && finding.advice.contains("redis+cluster://")),
        "{one:?}"
    );
    let all = bus::redis::examine(&cluster.url(), "tp").await;
    assert!(all.iter().all(|finding| finding.level == Level::Fine), "{all:?}");
}

#[tokio::test]
async fn flipped_bytes_in_the_log_on_disk_are_no_silent_loss() {
    let mut server = testkit::redis().await;
    let bus = bus::redis::open(&server.url()).await.unwrap();
    for n in 0..20 {
        publish(&bus, &[(&n.to_string(), "k")]).await;
    }
    server.kill();
    let written = server.folder().join("appendonlydir/appendonly.aof.1.incr.aof");
    let mut bytes = std::fs::read(&written).unwrap();
    // In the length of a command, in the middle.
    let at = bytes.windows(5).rposition(|part| part == b"XADD\r").unwrap() - 4;
    bytes[at] ^= 0x40;
    std::fs::write(&written, &bytes).unwrap();
    assert!(!server.try_restart().await, "Redis doesn't start on a log that it can't read");
    let log = std::fs::read_to_string(server.folder().join("redis.log")).unwrap();
    assert!(log.contains("redis-check-aof"), "it says what to do: {log}");
    let refused = bus.publish(vec![event("a", "k")]).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
}
