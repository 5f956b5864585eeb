//! What events and operators purge, on every gateway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bus::Bus;
use events::{Envelope, Name};
use http::Request;
use testkit::eventually;
use tokio::sync::Semaphore;

use crate::{cache::Origin, running::Running};

const BOUND: Duration = Duration::from_secs(30);

async fn things() -> Origin {
    Origin::new(|number, path, _| {
        let body = match path {
            "/things" => format!(r#"{{"number": {number}, "things": [{{"id": 1}}, {{"id": 2}}]}}"#),
            _ => format!(r#"{{"number": {number}}}"#),
        };
        (200, vec![("content-type", "application/json".to_owned())], body)
    })
    .await
}

fn sections(origin: &Origin, more: &str) -> String {
    format!(
        "{more}\nupstreams: {{origin: {{endpoints: ['{}']}}}}\nroutes:\n\
         - {{match: {{path: '/things'}}, proxy: origin, cache: {{ttl: 1h, tags: ['things:{{things.id}}']}}}}\n\
         - {{match: {{path: '/things/{{id}}'}}, proxy: origin, cache: {{ttl: 1h, tags: ['things:{{id}}']}}}}\n",
        origin.address
    )
}

const PURGE: &str = "purge: [{filter: 'DB/*', tags: ['{collection}:{id}']}]";

async fn publish(bus: &Bus, subject: &str) {
    let (queue, event) = (Name::new("DB").unwrap(), Name::new("UPDATE").unwrap());
    let event = Envelope::new("/services/thing", queue, event).subject(subject).data(serde_json::json!({}));
    bus.publish(vec![event]).await.unwrap().remove(0).unwrap();
}

async fn is_kept(gateway: &Running, path: &str) -> bool {
    let status = gateway.send("GET", path, &[("cache-control", "only-if-cached")], "").await.status;
    assert!([200, 504].contains(&status.as_u16()));
    status == 200
}

async fn heard(gateway: &Running) {
    eventually("purges are heard", BOUND, async || {
        (gateway.ops("/cache").await["purging"]["following"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_purges_its_tag_on_three_gateways() {
    let (redis, origin) = (testkit::redis().await, things().await);
    let text = sections(&origin, &format!("cache: {{redis: '{}', {PURGE}}}", redis.url()));
    let gateways = [Running::start(&text).await, Running::start(&text).await, Running::start(&text).await];
    let bus = bus::redis::open(&redis.url()).await.unwrap();
    for gateway in &gateways {
        heard(gateway).await;
        gateway.get("/things/2").await;
    }
    let mut took = Vec::new();
    for _ in 0..100 {
        for gateway in &gateways {
            gateway.get("/things/1").await;
            gateway.get("/things").await;
            assert!(is_kept(gateway, "/things/1").await && is_kept(gateway, "/things").await);
        }
        let begin = Instant::now();
        publish(&bus, "things/1").await;
        for gateway in &gateways {
            eventually("it is purged", BOUND, async || (!is_kept(gateway, "/things/1").await).then_some(())).await;
        }
        took.push(begin.elapsed());
        for gateway in &gateways {
            assert!(!is_kept(gateway, "/things").await, "so is the list that it is in");
            assert!(is_kept(gateway, "/things/2").await, "and nothing else");
        }
    }
    took.sort();
    println!("100 purges on three gateways: p50 {:?}, max {:?}", took[50], took[99]);
    for gateway in gateways {
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_was_on_its_way_when_it_was_purged_is_not_kept() {
    let (entered, leave, asked) =
        (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, waiting, counted) = (Arc::clone(&entered), Arc::clone(&leave), Arc::clone(&asked));
    let address = crate::running::upstream(move |_| {
        let (inside, waiting, number) = (Arc::clone(&inside), Arc::clone(&waiting), counted.fetch_add(1, SeqCst) + 1);
        async move {
            inside.add_permits(1);
            waiting.acquire().await.unwrap().forget();
            let body = http_body_util::Full::new(bytes::Bytes::from(number.to_string()));
            http::Response::builder().header("cache-control", "max-age=600").body(body).unwrap()
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
    let gateway = Running::beside(
        bus.clone(),
        &format!(
            "cache: {{{PURGE}}}\nupstreams: {{origin: {{endpoints: ['{address}']}}}}\n\
             routes: [{{match: {{path: '/things/{{id}}'}}, proxy: origin, cache: {{tags: ['things:{{id}}']}}}}]\n"
        ),
    )
    .await;
    heard(&gateway).await;
    let gateway = Arc::new(gateway);
    let early = Arc::clone(&gateway);
    let early = tokio::spawn(async move { early.get("/things/1").await.body });
    entered.acquire().await.unwrap().forget();
    publish(&bus, "things/1").await;
    eventually("the event is heard", BOUND, async || {
        (gateway.ops("/cache").await["purging"]["events"] == 1).then_some(())
    })
    .await;
    // Whoever asks now, while the first is still at it, must not get what that one is given.
    let late = Arc::clone(&gateway);
    let late = tokio::spawn(async move { late.get("/things/1").await.body });
    leave.add_permits(10);
    assert_eq!((early.await.unwrap(), late.await.unwrap()), ("1".to_owned(), "2".to_owned()));
    assert_eq!((gateway.get("/things/1").await.body, asked.load(SeqCst)), ("2".to_owned(), 2));
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn an_event_with_more_tags_than_may_be_purges_everything() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), things().await);
    let bus = bus::sqlite::open(&folder.path().join("bus.db")).await.unwrap();
    let purge = "cache: {purge: [{filter: 'DB/*', tags: ['things:{data.ids}']}]}";
    let gateway = Running::beside(bus.clone(), &sections(&origin, purge)).await;
    heard(&gateway).await;
    for (ids, others_go) in [(1..=1000, false), (1..=1001, true)] {
        gateway.get("/things/1").await;
        gateway.get("/things/9999").await;
        let (queue, event) = (Name::new("DB").unwrap(), Name::new("UPDATE").unwrap());
        let data = serde_json::json!({"ids": ids.collect::<Vec<_>>()});
        let event = Envelope::new("/services/thing", queue, event).subject("things/1").data(data);
        bus.publish(vec![event]).await.unwrap().remove(0).unwrap();
        eventually("it is purged", BOUND, async || (!is_kept(&gateway, "/things/1").await).then_some(())).await;
        // Tags are purged one after the other, in their order.
        assert_eq!(!is_kept(&gateway, "/things/9999").await, others_go);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_bus_that_was_away_purges_everything_when_it_is_back() {
    let (mut redis, origin) = (testkit::redis().await, things().await);
    let text = sections(&origin, &format!("cache: {{redis: '{}', bus_away: 1h, {PURGE}}}", redis.url()));
    let gateway = Running::start(&text).await;
    heard(&gateway).await;
    gateway.get("/things/1").await;
    redis.kill();
    eventually("it shows", BOUND, async || {
        (gateway.ops("/cache").await["purging"]["following"] == false).then_some(())
    })
    .await;
    assert!(is_kept(&gateway, "/things/1").await, "for a while it is given nonetheless");
    redis.restart().await;
    heard(&gateway).await;
    assert!(!is_kept(&gateway, "/things/1").await, "what has changed meanwhile nobody knows");
    gateway.stop().await;
}

#[tokio::test]
async fn without_the_bus_what_events_purge_is_given_no_longer_than_allowed() {
    let origin = things().await;
    let (redis, text) = (testkit::redis().await, |url: &str| {
        sections(&origin, &format!("cache: {{redis: '{url}', bus_away: 0s, {PURGE}}}"))
    });
    let url = redis.url();
    drop(redis);
    let gateway = Running::start(&text(&url)).await;
    gateway.get("/things/1").await;
    eventually("it is asked for again", BOUND, async || (!is_kept(&gateway, "/things/1").await).then_some(())).await;
    gateway.stop().await;
}

#[tokio::test]
async fn operators_purge_by_tag_by_prefix_and_all() {
    let origin = things().await;
    let gateway = Running::start(&sections(&origin, "")).await;
    let purge = async |query: &str| {
        let request = Request::post(format!("/cache/purge?{query}")).body(axum::body::Body::empty()).unwrap();
        tower::ServiceExt::oneshot(gateway.ops.clone(), request).await.unwrap().status().as_u16()
    };
    for (query, gone) in [
        ("tag=things:1", [true, false, true]),
        ("tag=things:1&tag=things:2", [true, true, true]),
        ("prefix=http://gateway.test/things/", [true, true, false]),
        ("all=true", [true, true, true]),
    ] {
        let paths = ["/things/1", "/things/2", "/things"];
        for path in paths {
            gateway.get(path).await;
            assert!(is_kept(&gateway, path).await, "{path}");
        }
        assert_eq!(purge(query).await, 200);
        for (path, gone) in paths.into_iter().zip(gone) {
            assert_eq!(!is_kept(&gateway, path).await, gone, "{query} {path}");
        }
    }
    for wrong in ["", "all=false", "tag=", "tags=a"] {
        assert_eq!(purge(wrong).await, 400, "{wrong}");
    }
    let shown = gateway.ops("/cache").await;
    assert!(shown["kept"]["most_bytes"] == 128 << 20 && shown["kept"]["purges"].as_u64() >= Some(5), "{shown}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_purges_the_tags_of_its_route_at_once() {
    let origin = things().await;
    let gateway = Running::start(&sections(&origin, "")).await;
    gateway.get("/things").await;
    assert!(is_kept(&gateway, "/things").await);
    gateway.send("PATCH", "/things/2", &[], "x").await;
    assert!(!is_kept(&gateway, "/things").await, "it is in the list");
    gateway.stop().await;
}
