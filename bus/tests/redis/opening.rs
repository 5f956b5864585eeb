//! What a server must be, and what it can confirm.

use bus::{Confirm, Error, PublishOptions, redis::Options};
use testkit::{Aof, Redis, RedisOptions};

use super::command;
use crate::conformance::{event, publish};

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
