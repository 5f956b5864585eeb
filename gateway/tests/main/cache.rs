//! What is kept, for whom, how long, and what is asked again (RFC 9111), on real sockets.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use gateway::keys;
use http::{HeaderMap, Response};
use http_body_util::Full;
use testkit::eventually;
use tokio::sync::Semaphore;

use crate::running::{Answer, Running, upstream};

const BOUND: Duration = Duration::from_secs(30);
const A_DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A service that counts how often it is asked, and answers as a test says.
pub struct Origin {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// Requests to `/slow` take one of these.
    leave: Arc<Semaphore>,
}

type Fields = Vec<(&'static str, String)>;

impl Origin {
    /// `answer` gets how often it was asked, the path and the header; it returns status, fields and body.
    pub async fn new<F>(answer: F) -> Self
    where
        F: Fn(usize, &str, &HeaderMap) -> (u16, Fields, String) + Send + Sync + 'static,
    {
        let (asked, leave) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, awaited, answer) = (Arc::clone(&asked), Arc::clone(&leave), Arc::new(answer));
        let address = upstream(move |request| {
            let (asked, leave, answer) = (Arc::clone(&counted), Arc::clone(&awaited), Arc::clone(&answer));
            async move {
                let number = asked.fetch_add(1, SeqCst) + 1;
                if request.uri().path().starts_with("/slow") {
                    leave.acquire().await.unwrap().forget();
                }
                let (status, fields, body) = answer(number, &request.uri().to_string(), request.headers());
                let mut response = Response::builder().status(status);
                for (name, value) in fields {
                    response = response.header(name, value);
                }
                response.body(Full::new(Bytes::from(body))).unwrap()
            }
        })
        .await;
        Self { address, asked, leave }
    }

    /// One that says the same of all its answers; each has another body.
    pub async fn saying(fields: &[(&'static str, &str)]) -> Self {
        let fields: Fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self::new(move |number, _, _| (200, fields.clone(), format!("answer {number}"))).await
    }

    /// Lets so many go on.
    pub fn leave(&self, requests: usize) {
        self.leave.add_permits(requests);
    }

    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// A gateway that keeps what it says, by the route's word.
    pub async fn behind(&self, cache: &str) -> Running {
        Running::start(&self.sections(cache)).await
    }

    fn sections(&self, cache: &str) -> String {
        format!(
            "upstreams: {{origin: {{endpoints: ['{}']}}}}\n\
             routes: [{{match: {{path: '/{{rest=**}}'}}, proxy: origin, cache: {cache}}}]\n",
            self.address
        )
    }
}

fn body(answer: &Answer) -> &str {
    &answer.body
}

#[tokio::test]
async fn a_fresh_answer_is_given_again_with_its_age_and_what_was_done() {
    let origin =
        Origin::saying(&[("cache-control", "max-age=60"), ("x-own", "1"), ("connection", "x-hop"), ("x-hop", "1")])
            .await;
    let gateway = origin.behind("{}").await;
    let first = gateway.get("/a").await;
    assert_eq!((body(&first), first.header("age").as_str()), ("answer 1", ""));
    assert!(first.header("cache-status").starts_with("turnpike; fwd=uri-miss; stored; ttl="), "{first:?}");
    let again = gateway.get("/a").await;
    assert_eq!((body(&again), again.header("x-own").as_str(), again.header("x-hop").as_str()), ("answer 1", "1", ""));
    assert!(again.header("cache-status").starts_with("turnpike; hit; ttl="), "{again:?}");
    assert!(again.header("age").parse::<u64>().unwrap() < 60);
    assert_eq!(again.header("date"), first.header("date"));
    let head = gateway.send("HEAD", "/a", &[], "").await;
    assert_eq!((head.header("content-length").as_str(), body(&head)), ("8", ""));
    assert_eq!(body(&gateway.get("/a?b").await), "answer 2", "another target");
    assert_eq!(origin.asked(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn what_must_not_be_kept_is_not() {
    for (fields, why) in [
        (&[("cache-control", "no-store")][..], "no-store"),
        (&[("cache-control", "private, max-age=60")], "private"),
        (&[("cache-control", "max-age=60"), ("set-cookie", "a=b")], "set-cookie"),
        (&[("cache-control", "max-age=60"), ("vary", "a, *")], "vary"),
        (&[("cache-control", "max-age=60"), ("content-type", "text/event-stream")], "stream"),
        (&[("cache-control", "max-age=0")], "stale"),
        (&[("expires", "0")], "stale"),
        (&[("last-modified", A_DATE)], "no-freshness"),
        (&[], "no-freshness"),
    ] {
        let origin = Origin::saying(fields).await;
        let gateway = origin.behind("{}").await;
        for asked in 1..3 {
            let answer = gateway.get("/a").await;
            assert_eq!(answer.header("cache-status"), format!("turnpike; fwd=uri-miss; detail={why}"), "{fields:?}");
            assert_eq!(origin.asked(), asked, "{fields:?}");
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_route_says_how_long_an_answer_is_good_that_does_not() {
    let origin = Origin::new(|number, path, _| match path {
        "/none" => (404, vec![], format!("{number}")),
        "/short" => (200, vec![("cache-control", "max-age=0".to_owned())], format!("{number}")),
        _ => (200, vec![], format!("{number}")),
    })
    .await;
    let gateway = origin.behind("{ttl: 60s}").await;
    assert_eq!((gateway.get("/a").await.body, gateway.get("/a").await.body), ("1".to_owned(), "1".to_owned()));
    assert_ne!(gateway.get("/short").await.body, gateway.get("/short").await.body, "the answer's own word goes first");
    assert_ne!(gateway.get("/none").await.body, gateway.get("/none").await.body, "a failure is not kept by itself");
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_may_ask_for_more_and_for_less() {
    let origin = Origin::saying(&[("cache-control", "max-age=60")]).await;
    let gateway = origin.behind("{}").await;
    let ask = async |directive: &str| gateway.send("GET", "/a", &[("cache-control", directive)], "").await;
    let refused = ask("only-if-cached").await;
    assert_eq!(
        (refused.status.as_u16(), refused.problem()["type"].as_str().unwrap().ends_with("/not-cached")),
        (504, true)
    );
    assert_eq!(body(&ask("no-store").await), "answer 1");
    assert_eq!(body(&ask("max-age=60").await), "answer 2", "what was asked for with no-store was not kept");
    assert_eq!(body(&ask("only-if-cached").await), "answer 2");
    let anew = ask("no-cache").await;
    assert_eq!(body(&anew), "answer 3");
    assert!(anew.header("cache-status").starts_with("turnpike; fwd=request; stored; ttl="), "{anew:?}");
    assert_eq!(body(&ask("min-fresh=3600").await), "answer 4");
    let pragma = gateway.send("GET", "/a", &[("pragma", "no-cache")], "").await;
    assert_eq!((body(&pragma), body(&gateway.get("/a").await)), ("answer 5", "answer 5"));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_stale_is_asked_for_again_by_its_validators() {
    let origin = Origin::new(|number, _, headers| {
        let fields = |more: &[(&'static str, &str)]| {
            let fields = [("cache-control", "max-age=0"), ("etag", "\"v1\"")];
            fields.iter().chain(more).map(|(name, value)| (*name, (*value).to_owned())).collect::<Fields>()
        };
        match headers.get("if-none-match") {
            Some(tag) if tag == "\"v1\"" => (304, fields(&[("x-number", &number.to_string())]), String::new()),
            _ => (200, fields(&[("x-kept", "1")]), "whole".to_owned()),
        }
    })
    .await;
    let gateway = origin.behind("{stale_while_revalidate: 0s}").await;
    gateway.get("/a").await;
    let again = gateway.get("/a").await;
    assert_eq!((again.status.as_u16(), body(&again)), (200, "whole"));
    assert_eq!((again.header("x-number"), again.header("x-kept")), ("2".to_owned(), "1".to_owned()), "both headers");
    assert!(again.header("cache-status").starts_with("turnpike; fwd=stale; fwd-status=304; stored"), "{again:?}");
    let known = gateway.send("GET", "/a", &[("if-none-match", "W/\"v1\"")], "").await;
    assert_eq!((known.status.as_u16(), body(&known), known.header("etag").as_str()), (304, "", "\"v1\""));
    assert_eq!(origin.asked(), 3);
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_has_it_and_one_that_wants_a_part_are_answered_from_what_is_kept() {
    let origin = Origin::saying(&[
        ("cache-control", "max-age=60"),
        ("etag", "\"v\""),
        ("last-modified", A_DATE),
        ("content-type", "text/plain"),
    ])
    .await;
    let gateway = origin.behind("{}").await;
    gateway.get("/a").await;
    let ask = async |fields: &[(&str, &str)]| gateway.send("GET", "/a", fields, "").await;
    let known = ask(&[("if-none-match", "\"x\", \"v\"")]).await;
    assert_eq!(
        (known.status.as_u16(), known.header("content-type").as_str(), known.header("age").is_empty()),
        (304, "", false)
    );
    assert_eq!(ask(&[("if-modified-since", A_DATE)]).await.status, 304);
    assert_eq!(ask(&[("if-none-match", "\"x\""), ("if-modified-since", A_DATE)]).await.status, 200);
    let part = ask(&[("range", "bytes=0-2")]).await;
    assert_eq!((part.status.as_u16(), body(&part), part.header("content-range").as_str()), (206, "ans", "bytes 0-2/8"));
    let parts = ask(&[("range", "bytes=0-1, 7-")]).await;
    assert!(parts.header("content-type").starts_with("multipart/byteranges; boundary="), "{parts:?}");
    assert!(
        body(&parts).contains("Content-Range: bytes 0-1/8\r\n\r\nan\r\n")
            && body(&parts).contains("bytes 7-7/8\r\n\r\n1\r\n")
    );
    let beyond = ask(&[("range", "bytes=8-")]).await;
    assert_eq!((beyond.status.as_u16(), beyond.header("content-range").as_str()), (416, "bytes */8"));
    assert!(beyond.problem()["type"].as_str().unwrap().ends_with("/range-not-satisfiable"));
    assert_eq!(ask(&[("range", "bytes=0-2"), ("if-range", "\"v\"")]).await.status, 206);
    assert_eq!(ask(&[("range", "bytes=0-2"), ("if-range", "\"x\"")]).await.status, 200);
    assert_eq!(origin.asked(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn each_variant_is_for_those_who_ask_like_its_first_client() {
    let origin = Origin::new(|number, _, headers| {
        let fields = vec![("cache-control", "max-age=60".to_owned()), ("vary", "x-kind".to_owned())];
        (200, fields, format!("{number} {}", headers.get("x-kind").map_or("", |kind| kind.to_str().unwrap())))
    })
    .await;
    let gateway = origin.behind("{}").await;
    let ask = async |kind: &str| gateway.send("GET", "/a", &[("x-kind", kind)], "").await.body;
    assert_eq!(
        (ask("a").await, ask("b").await, gateway.get("/a").await.body),
        ("1 a".into(), "2 b".into(), "3 ".into())
    );
    assert_eq!(
        (ask("a").await, ask("b").await, gateway.get("/a").await.body),
        ("1 a".into(), "2 b".into(), "3 ".into())
    );
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_stale_is_given_while_it_is_fetched_and_where_that_fails() {
    let origin = Origin::new(|number, path, _| {
        let said = if path == "/meanwhile" {
            "max-age=1, stale-while-revalidate=600"
        } else {
            "max-age=1, stale-while-revalidate=0, stale-if-error=600"
        };
        let status = if path == "/error" && number > 1 { 503 } else { 200 };
        (status, vec![("cache-control", said.to_owned())], format!("{number}"))
    })
    .await;
    let gateway = origin.behind("{}").await;
    let first = gateway.get("/error").await;
    assert_eq!(first.body, "1");
    let stands_in = eventually("it is stale", BOUND, async || {
        let answer = gateway.get("/error").await;
        assert_eq!((answer.status.as_u16(), body(&answer)), (200, "1"));
        answer.header("cache-status").contains("detail=stale-if-error").then_some(answer)
    })
    .await;
    assert!(stands_in.header("age").parse::<u64>().unwrap() >= 1, "{stands_in:?}");
    let first = gateway.get("/meanwhile").await.body;
    eventually("another is given", BOUND, async || (gateway.get("/meanwhile").await.body != first).then_some(())).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_makes_old_what_it_changes() {
    let origin = Origin::new(|number, path, headers| {
        let refused = headers.contains_key("x-refused");
        let fields = vec![("cache-control", "max-age=60".to_owned()), ("location", "/b".to_owned())];
        (if refused { 409 } else { 200 }, fields, format!("{number} {path}"))
    })
    .await;
    let gateway = origin.behind("{}").await;
    let (a, b, c) = (gateway.get("/a").await.body, gateway.get("/b").await.body, gateway.get("/c").await.body);
    gateway.send("POST", "/a", &[("x-refused", "1")], "x").await;
    assert_eq!((&gateway.get("/a").await.body, &gateway.get("/b").await.body), (&a, &b), "nothing has changed");
    gateway.send("POST", "/a", &[], "x").await;
    assert!(gateway.get("/a").await.body != a && gateway.get("/b").await.body != b);
    assert_eq!(gateway.get("/c").await.body, c);
    gateway.stop().await;
}

#[tokio::test]
async fn no_answer_reaches_another_principal_unless_it_is_public() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.yaml");
    let key = |subject: &str| keys::new(Path::new(&file), subject, &[], None).unwrap();
    let (one, other) = (key("users/1"), key("users/2"));
    let origin = Origin::new(|number, path, _| {
        let said = if path == "/open" { "public, max-age=60" } else { "max-age=60" };
        (200, vec![("cache-control", said.to_owned())], format!("{number}"))
    })
    .await;
    for (cache, mixed) in [("{}", false), ("{per: public}", true)] {
        let gateway = Running::start(&format!(
            "authentication: {{api_keys: {{file: '{}'}}}}\n{}",
            file.display(),
            origin.sections(cache)
        ))
        .await;
        let ask = async |path: &str, key: &str| gateway.send("GET", path, &[("x-api-key", key)], "").await.body;
        let (ones, others, nobodys) =
            (ask("/own", &one).await, ask("/own", &other).await, gateway.get("/own").await.body);
        assert_eq!(ones == others && others == nobodys, mixed, "{cache}");
        assert_eq!((ask("/own", &one).await, ask("/own", &other).await), (ones, others));
        let open = ask("/open", &one).await;
        assert_eq!((ask("/open", &other).await, gateway.get("/open").await.body), (open.clone(), open));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn what_no_key_holds_can_not_poison_what_others_get() {
    let origin = Origin::saying(&[("cache-control", "max-age=60")]).await;
    let gateway = origin.behind("{}").await;
    for fields in [
        &[("x-http-method-override", "DELETE")][..],
        &[("if-match", "\"x\"")],
        &[("authorization", "Bearer x")],
        &[("x-api-key", "x")],
        &[("content-length", "4")],
    ] {
        let body = if fields[0].0 == "content-length" { "evil" } else { "" };
        let given = gateway.send("GET", "/a", fields, body).await;
        assert!(!given.header("cache-status").contains("stored"), "{fields:?}: {given:?}");
    }
    let asked = origin.asked();
    let clean = gateway.get("/a").await;
    assert_eq!((body(&clean), origin.asked()), (format!("answer {}", asked + 1).as_str(), asked + 1));
    for host in ["other.test", "gateway.test:81"] {
        let raw = format!("GET /a HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert!(!gateway.raw(raw.as_bytes()).await.contains(body(&clean)), "{host} is somebody else's");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_stampede_asks_once() {
    let origin = Origin::saying(&[("cache-control", "max-age=60")]).await;
    let gateway = Arc::new(
        Running::start(&format!("timeout: 60s\nlimits: {{in_flight: 20000}}\n{}", origin.sections("{}"))).await,
    );
    // As many connections as files may be open allow; on each, one after the other.
    let clients: Vec<_> = (0..500)
        .map(|_| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move {
                let mut connection = crate::running::Connection::open(gateway.address).await;
                for _ in 0..20 {
                    let answer = connection.send("GET", "/slow", &[], "").await;
                    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "answer 1"));
                }
            })
        })
        .collect();
    eventually("it is asked", BOUND, async || (origin.asked() > 0).then_some(())).await;
    origin.leave.add_permits(10_000);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(origin.asked(), 1);
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn who_waits_is_answered_although_the_first_has_left() {
    let origin = Origin::saying(&[("cache-control", "max-age=60")]).await;
    let gateway = Arc::new(origin.behind("{}").await);
    let first = Arc::clone(&gateway);
    let first = tokio::spawn(async move { first.get("/slow").await });
    eventually("it is asked", BOUND, async || (origin.asked() == 1).then_some(())).await;
    let second = Arc::clone(&gateway);
    let second = tokio::spawn(async move { second.get("/slow").await });
    eventually("another waits, too", BOUND, async || {
        let in_flight = gateway.ops("/cache").await["kept"]["fetching"].as_u64();
        (in_flight == Some(1)).then_some(())
    })
    .await;
    first.abort();
    origin.leave.add_permits(10);
    assert!(second.await.unwrap().body.starts_with("answer "));
    assert!(origin.asked() <= 2);
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn who_waited_for_what_is_not_kept_is_not_held_up_by_others() {
    let origin = Origin::saying(&[("cache-control", "no-store")]).await;
    let gateway = Arc::new(origin.behind("{}").await);
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move { gateway.get("/slow").await.body })
        })
        .collect();
    eventually("one asks", BOUND, async || (origin.asked() >= 1).then_some(())).await;
    // Nobody takes the place of another: all but those who came first are there at once.
    origin.leave.add_permits(1);
    eventually("all the others ask at once", BOUND, async || (origin.asked() == 20).then_some(())).await;
    origin.leave.add_permits(20);
    let mut bodies = Vec::new();
    for client in clients {
        bodies.push(client.await.unwrap());
    }
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20, "each has its own");
    Arc::into_inner(gateway).unwrap().stop().await;
}

#[tokio::test]
async fn a_large_answer_is_passed_on_as_it_comes_and_kept_only_if_it_is_small_enough() {
    let origin = Origin::new(|number, path, _| {
        let size = if path == "/large" { 1_100_000 } else { 900_000 };
        (200, vec![("cache-control", "max-age=60".to_owned())], number.to_string().repeat(size))
    })
    .await;
    let gateway = origin.behind("{}").await;
    for path in ["/large", "/fits"] {
        let first = gateway.get(path).await.body;
        assert!(first.len() >= 900_000);
        if path == "/fits" {
            eventually("it is kept", BOUND, async || {
                gateway.get(path).await.header("cache-status").contains("hit").then_some(())
            })
            .await;
        } else {
            assert!(gateway.get(path).await.header("cache-status").contains("detail=size"));
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_kept_outlives_a_reload_that_does_not_concern_it() {
    let origin = Origin::saying(&[("cache-control", "max-age=60")]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    let write = |more: &str, cache: &str| {
        std::fs::write(&file, format!("{}{more}{}", crate::running::LISTENER, origin.sections(cache))).unwrap();
    };
    write("", "{}");
    let gateway = Running::watching(&file).await;
    assert_eq!(gateway.get("/a").await.body, "answer 1");
    let reload = async |generation: u64| {
        eventually("it is taken over", BOUND, async || {
            (gateway.ops("/config").await["generation"] == generation).then_some(())
        })
        .await;
    };
    write("timeout: 14s\ncache: {size: 64MiB}\n", "{}");
    reload(2).await;
    assert_eq!(gateway.get("/a").await.body, "answer 1");
    write("timeout: 14s\ncache: {size: 64MiB}\n", "{per: public}");
    reload(3).await;
    assert_eq!(gateway.get("/a").await.body, "answer 2", "the route says otherwise now");
    gateway.stop().await;
}
