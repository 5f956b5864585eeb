//! What must not get from one client to another by way of the cache, nor stay in it.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use testkit::eventually;

use crate::{
    cache::Origin,
    running::{Answer, Running},
};

const BOUND: Duration = Duration::from_secs(30);

fn fields(fields: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn is_condition(headers: &HeaderMap) -> bool {
    headers.contains_key("if-none-match")
}

async fn is_kept(gateway: &Running, path: &str) -> bool {
    gateway.send("GET", path, &[("cache-control", "only-if-cached")], "").await.status == 200
}

#[tokio::test]
async fn what_a_304_says_to_one_client_is_not_told_to_the_next() {
    let origin = Origin::new(|number, path, headers| {
        let number = format!("n={number}");
        match (is_condition(headers), path) {
            (false, _) => {
                (200, fields(&[("cache-control", "public, max-age=0"), ("etag", "\"v\"")]), "whole".to_owned())
            }
            (true, "/cookie") => {
                (304, fields(&[("cache-control", "max-age=60"), ("set-cookie", &number)]), String::new())
            }
            (true, "/private") => {
                (304, fields(&[("cache-control", "private, max-age=60"), ("x-for", &number)]), String::new())
            }
            (true, "/never") => (304, fields(&[("cache-control", "no-store"), ("x-for", &number)]), String::new()),
            (true, _) => {
                (304, fields(&[("cache-control", "max-age=60"), ("vary", "*"), ("x-for", &number)]), String::new())
            }
        }
    })
    .await;
    let gateway = origin.behind("{stale_while_revalidate: 0s}").await;
    for path in ["/cookie", "/private", "/never", "/vary"] {
        gateway.get(path).await;
        let told = |answer: &Answer| [answer.header("set-cookie"), answer.header("x-for")].concat();
        let (one, other) = (gateway.get(path).await, gateway.get(path).await);
        assert_eq!((one.status.as_u16(), one.body.as_str()), (200, "whole"), "{path}");
        assert_ne!(told(&one), "", "{path}: who asked is told");
        assert_ne!(told(&one), told(&other), "{path}: {other:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_304_of_another_version_says_nothing_of_the_one_that_is_kept() {
    let origin = Origin::new(|number, _, headers| {
        let tag = if number == 1 { "\"v1\"" } else { "\"v2\"" };
        let fields = fields(&[("cache-control", "max-age=0"), ("etag", tag)]);
        if is_condition(headers) { (304, fields, String::new()) } else { (200, fields, tag.to_owned()) }
    })
    .await;
    let gateway = origin.behind("{stale_while_revalidate: 0s}").await;
    assert_eq!(gateway.get("/a").await.body, "\"v1\"");
    let again = gateway.get("/a").await;
    assert_eq!(
        (again.status.as_u16(), again.body.clone(), again.header("etag").as_str()),
        (200, "\"v2\"".to_owned(), "\"v2\"")
    );
    assert_eq!(origin.asked(), 3, "the whole was asked for");
    gateway.stop().await;
}

#[tokio::test]
async fn whose_a_cookie_is_nobody_knows() {
    let origin = Origin::new(|number, path, _| {
        let said = if path == "/said" { fields(&[("cache-control", "max-age=60")]) } else { vec![] };
        (200, said, format!("{number}"))
    })
    .await;
    for (cache, path, shared, each) in [
        ("{ttl: 60s}", "/a", false, false),
        ("{ttl: 60s}", "/said", true, true),
        ("{ttl: 60s, per: public}", "/a", true, true),
        ("{ttl: 60s, vary: [cookie]}", "/a", false, true),
    ] {
        let gateway = origin.behind(cache).await;
        let ask = async |cookie: &str| gateway.send("GET", path, &[("cookie", cookie)], "").await;
        let (one, other, again) = (ask("s=1").await, ask("s=2").await, ask("s=1").await);
        assert_eq!((one.body == other.body, one.body == again.body), (shared, each), "{cache} {path}");
        if !each {
            assert_eq!(one.header("cache-status"), "turnpike; fwd=uri-miss; detail=cookie");
            assert_eq!(gateway.get(path).await.body, gateway.get(path).await.body, "without one it is kept");
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_one_client_has_left_is_not_told_to_others() {
    let origin =
        Origin::saying(&[("cache-control", "max-age=60"), ("ratelimit", "\"a\";r=1"), ("x-request-id", "own")]).await;
    let gateway = origin.behind("{}").await;
    gateway.get("/a").await;
    let again = gateway.get("/a").await;
    assert_eq!((again.body.as_str(), again.header("ratelimit").as_str()), ("answer 1", ""));
    assert_ne!(again.header("x-request-id"), "own");
    gateway.stop().await;
}

#[tokio::test]
async fn parts_are_for_get_alone() {
    let origin = Origin::saying(&[("cache-control", "max-age=60")]).await;
    let gateway = origin.behind("{}").await;
    gateway.get("/a").await;
    for range in ["bytes=0-2", "bytes=99-"] {
        let head = gateway.send("HEAD", "/a", &[("range", range)], "").await;
        assert_eq!((head.status.as_u16(), head.header("content-length").as_str()), (200, "8"), "{range}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_of_which_nobody_heard_may_have_happened() {
    let origin = Origin::saying(&[("cache-control", "max-age=600")]).await;
    let gateway = Arc::new(origin.behind("{}").await);
    origin.leave(1);
    gateway.get("/slow").await;
    assert!(is_kept(&gateway, "/slow").await);
    let writing = Arc::clone(&gateway);
    let writing = tokio::spawn(async move { writing.send("PATCH", "/slow", &[], "x").await });
    eventually("it is written", BOUND, async || (origin.asked() == 2).then_some(())).await;
    assert!(is_kept(&gateway, "/slow").await, "as long as it is not known");
    writing.abort();
    eventually("it is purged", BOUND, async || (!is_kept(&gateway, "/slow").await).then_some(())).await;
    origin.leave(10);
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn the_host_that_a_key_holds_is_the_one_that_the_service_hears() {
    let origin = Origin::new(|_, _, headers| {
        let host = |name: &str| headers.get(name).map_or("", |host| host.to_str().unwrap_or_default()).to_owned();
        (
            200,
            fields(&[("cache-control", "max-age=60")]),
            format!("<{}>", [host("host"), host("x-forwarded-host")].join(" ")),
        )
    })
    .await;
    let gateway = origin.behind("{}").await;
    let raw = "GET http://good.test/a HTTP/1.1\r\nhost: evil.test\r\nconnection: close\r\n\r\n";
    let given = gateway.raw(raw.as_bytes()).await;
    let kept = gateway.raw(b"GET /a HTTP/1.1\r\nhost: good.test\r\nconnection: close\r\n\r\n").await;
    assert!(!given.contains("evil.test") && !kept.contains("evil.test"), "{given}\n{kept}");
    gateway.stop().await;
}
