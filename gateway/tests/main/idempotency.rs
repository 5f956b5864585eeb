//! A request that is sent again with its Idempotency-Key.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use gateway::keys;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use testkit::eventually;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Semaphore};

use crate::running::{Answer, Running, upstream};

pub const BOUND: Duration = Duration::from_secs(20);
const OPEN: &str = "turnpike_gateway_connections";

/// A service that does something each time it is asked: it answers with how often it was, as the query says.
pub struct Till {
    pub address: std::net::SocketAddr,
    pub asked: Arc<AtomicUsize>,
    /// Answers to `?wait` take one of these.
    pub leave: Arc<Semaphore>,
}

impl Till {
    pub async fn open() -> Self {
        let (asked, leave) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, awaited) = (Arc::clone(&asked), Arc::clone(&leave));
        let address = upstream(move |request| {
            let (asked, leave) = (Arc::clone(&counted), Arc::clone(&awaited));
            async move {
                let query = request.uri().query().unwrap_or_default().to_owned();
                _ = request.into_body().collect().await;
                let number = asked.fetch_add(1, SeqCst) + 1;
                if query == "wait" {
                    leave.acquire().await.unwrap().forget();
                }
                let body = if query == "large" { "x".repeat(256 * 1024 + 1) } else { format!("done {number}") };
                let status = match query.as_str() {
                    "refuse" => StatusCode::BAD_REQUEST,
                    "fail" => StatusCode::INTERNAL_SERVER_ERROR,
                    _ => StatusCode::CREATED,
                };
                Response::builder()
                    .status(status)
                    .header("location", format!("/things/{number}"))
                    .header("content-type", "text/plain")
                    .header("content-encoding", "identity")
                    .header("link", "</one>; rel=next")
                    .header("link", "</two>; rel=prev")
                    .header("set-cookie", "a=b")
                    .header("x-other", "1")
                    .body(Full::new(Bytes::from(body)))
                    .unwrap()
            }
        })
        .await;
        Self { address, asked, leave }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

/// The sections of a gateway before the till, and the keys of two callers.
pub fn before(till: &Till, folder: &Path) -> (String, [String; 2]) {
    let file = folder.join("keys.yaml");
    let keys = ["customers/1", "customers/2"].map(|subject| keys::new(&file, subject, &[], None).unwrap());
    let sections = format!(
        "authentication: {{api_keys: {{file: '{}'}}}}\n\
         upstreams: {{till: {{endpoints: ['{}']}}}}\n\
         authenticate: required\n\
         routes:\n\
         - {{match: {{path: /pay}}, proxy: till, idempotency: {{}}}}\n\
         - {{match: {{path: /strict}}, proxy: till, idempotency: {{required: true}}}}\n\
         - {{match: {{path: /quick}}, proxy: till, timeout: 1s, idempotency: {{}}}}\n",
        file.display(),
        till.address,
    );
    (sections, keys)
}

pub async fn pay(gateway: &Running, caller: &str, target: &str, key: &str, body: &str) -> Answer {
    gateway.send("POST", target, &[("x-api-key", caller), ("idempotency-key", key)], body).await
}

#[tokio::test]
async fn a_body_may_be_as_large_as_its_route_says() {
    let folder = tempfile::tempdir().unwrap();
    let till = Till::open().await;
    let (sections, [one, _]) = before(&till, folder.path());
    let sections = format!(
        "{sections}- {{match: {{path: /large}}, proxy: till, body_limit: 2MiB, idempotency: {{}}}}\n\
         - {{match: {{path: /small}}, proxy: till, body_limit: 1KiB, idempotency: {{}}}}\n"
    );
    let gateway = Running::start(&sections).await;
    let status = async |path, size| pay(&gateway, &one, path, &format!("{path}{size}"), &"x".repeat(size)).await.status;
    assert_eq!(
        (status("/large", 2 << 20).await, status("/large", (2 << 20) + 1).await.as_u16()),
        (StatusCode::CREATED, 413)
    );
    assert_eq!(
        (status("/pay", 1 << 20).await, status("/pay", (1 << 20) + 1).await.as_u16()),
        (StatusCode::CREATED, 413)
    );
    assert_eq!((status("/small", 1 << 10).await, status("/small", 1025).await.as_u16()), (StatusCode::CREATED, 413));
    gateway.stop().await;
}

#[tokio::test]
async fn a_repeated_request_is_done_once_and_answered_alike() {
    let folder = tempfile::tempdir().unwrap();
    let till = Till::open().await;
    let (sections, [one, two]) = before(&till, folder.path());
    let gateway = Running::start(&sections).await;
    let first = pay(&gateway, &one, "/pay", "a", "10").await;
    assert_eq!((first.status.as_u16(), first.body.as_str(), first.header("x-other").as_str()), (201, "done 1", "1"));
    assert_eq!(first.header("idempotency-replayed"), "");
    let second = pay(&gateway, &one, "/pay", "a", "10").await;
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    assert_eq!(second.header("location"), "/things/1");
    for name in ["content-type", "content-encoding", "content-length", "link", "x-other"] {
        assert_eq!(second.header(name), first.header(name), "{name}");
        assert_ne!(second.header(name), "", "{name}");
    }
    assert_eq!((first.header("set-cookie").as_str(), second.header("set-cookie").as_str()), ("a=b", ""));
    assert_eq!(second.header("idempotency-replayed"), "true");
    assert_ne!(second.header("x-request-id"), first.header("x-request-id"), "it is another request all the same");

    assert_eq!(pay(&gateway, &one, "/pay", "b", "10").await.body, "done 2", "another key");
    assert_eq!(pay(&gateway, &two, "/pay", "a", "10").await.body, "done 3", "another caller");
    assert_eq!(pay(&gateway, &one, "/strict", "a", "10").await.body, "done 4", "another route");
    let without = gateway.send("POST", "/pay", &[("x-api-key", one.as_str())], "10").await;
    assert_eq!(without.body, "done 5", "no key");
    assert_eq!(till.asked(), 5);
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let folder = tempfile::tempdir().unwrap();
    let till = Till::open().await;
    let (sections, [one, _]) = before(&till, folder.path());
    let gateway = Running::start(&sections).await;
    assert_eq!(pay(&gateway, &one, "/pay", "a", "10").await.status, 201);
    for (target, body) in [("/pay", "11"), ("/pay?x", "10")] {
        let other = pay(&gateway, &one, target, "a", body).await;
        assert_eq!(other.status, 422, "{target} {body}");
        assert_eq!(other.problem()["type"], "https://turnpike.dev/problems/key-reused");
    }
    let at = async |host: &str| {
        let request = format!(
            "POST /pay HTTP/1.1\r\nhost: {host}\r\nx-api-key: {one}\r\nidempotency-key: a\r\n\
             content-length: 2\r\nconnection: close\r\n\r\n10"
        );
        gateway.raw(request.as_bytes()).await[9..12].to_owned()
    };
    assert_eq!((at("gateway.test").await, at("other.test").await), ("201".to_owned(), "422".to_owned()));
    assert_eq!(till.asked(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_may_be_required_and_must_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let till = Till::open().await;
    let (sections, [one, _]) = before(&till, folder.path());
    let gateway = Running::start(&sections).await;
    let caller = ("x-api-key", one.as_str());
    let missing = gateway.send("POST", "/strict", &[caller], "").await;
    assert_eq!(missing.status, 400);
    assert_eq!(missing.problem()["detail"], "this needs an Idempotency-Key");
    assert_eq!(gateway.send("GET", "/strict", &[caller], "").await.status, 201, "a safe method needs none");
    let long = "x".repeat(256);
    assert_eq!(pay(&gateway, &one, "/pay", &long, "").await.status, 400);
    let two = gateway.send("POST", "/pay", &[caller, ("idempotency-key", "a"), ("idempotency-key", "b")], "").await;
    assert_eq!(two.status, 400);
    for wrong in ["\"a", "a\tb", "\"a\"b\"", "\"a\\b\"", "\"a\";x=1", "\"\"", "\" a\""] {
        assert_eq!(pay(&gateway, &one, "/pay", wrong, "").await.status, 400, "{wrong}");
    }
    assert_eq!(till.asked(), 1);
    // A string, as the draft has it, and the same without quotes are one key, for the service, too.
    assert_eq!(pay(&gateway, &one, "/pay", "\"a\\\"b\"", "").await.body, "done 2");
    assert_eq!(pay(&gateway, &one, "/pay", "a\"b", "").await.body, "done 2");
    gateway.stop().await;
}

#[tokio::test]
async fn a_repeat_waits_its_turn_while_the_first_is_being_answered() {
    let folder = tempfile::tempdir().unwrap();
    let till = Till::open().await;
    let (sections, [one, _]) = before(&till, folder.path());
    let gateway = Running::start(&sections).await;
    let (first, ()) = tokio::join!(pay(&gateway, &one, "/pay?wait", "a", "10"), async {
        eventually("the first is under way", BOUND, async || (till.asked() == 1).then_some(())).await;
        let second = pay(&gateway, &one, "/pay?wait", "a", "10").await;
        assert_eq!(second.status, 409);
        assert_eq!(second.problem()["type"], "https://turnpike.dev/problems/conflict");
        assert_eq!(second.header("retry-after"), "1");
        till.leave.add_permits(1);
    });
    assert_eq!(first.status, 201);
    assert_eq!(pay(&gateway, &one, "/pay?wait", "a", "10").await.header("idempotency-replayed"), "true");
    gateway.stop().await;
}

#[tokio::test]
async fn what_failed_or_is_too_large_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let till = Till::open().await;
    let (sections, [one, _]) = before(&till, folder.path());
    let gateway = Running::start(&sections).await;
    for (target, status) in [("/pay?refuse", 400), ("/pay?fail", 500), ("/pay?large", 201)] {
        for _ in 0..2 {
            let answer = pay(&gateway, &one, target, target, "10").await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("idempotency-replayed").as_str()),
                (status, ""),
                "{target}"
            );
            if target == "/pay?large" {
                assert_eq!(answer.body.len(), 256 * 1024 + 1);
            }
        }
    }
    assert_eq!(till.asked(), 6);
    gateway.stop().await;
}

#[tokio::test]
async fn who_gave_up_waiting_can_not_have_it_done_twice_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let till = Till::open().await;
    let (sections, [one, _]) = before(&till, folder.path());
    let gateway = Running::start(&sections).await;
    assert_eq!(pay(&gateway, &one, "/quick?wait", "a", "10").await.status, 504);
    assert_eq!(pay(&gateway, &one, "/quick?wait", "a", "10").await.status, 409, "the service may be at it yet");
    till.leave.add_permits(100);
    // Its deadline and five seconds on, nothing is known of it.
    let again = eventually("the key is free", BOUND, async || {
        let answer = pay(&gateway, &one, "/quick?wait", "a", "10").await;
        (answer.status == 201).then_some(answer)
    })
    .await;
    assert_eq!((again.body.as_str(), till.asked()), ("done 2", 2));
    gateway.stop().await;
}

#[tokio::test]
async fn who_leaves_makes_no_room_for_more_while_the_work_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let till = Till::open().await;
    let (sections, [one, two]) = before(&till, folder.path());
    let gateway = Running::start(&format!("concurrency: {{requests: 1, key: principal}}\n{sections}")).await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!(
        "POST /pay?wait HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {one}\r\nidempotency-key: a\r\ncontent-length: 2\r\n\r\n10"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    eventually("it is under way", BOUND, async || (till.asked() == 1).then_some(())).await;
    drop(socket);
    eventually("the gateway knows", BOUND, async || {
        let metrics = telemetry::render();
        let open = metrics.lines().find(|line| line.split(['{', ' ']).next() == Some(OPEN)).unwrap();
        open.ends_with(" 0").then_some(())
    })
    .await;
    assert_eq!(pay(&gateway, &one, "/pay", "b", "10").await.status, 429);
    assert_eq!(pay(&gateway, &two, "/pay", "b", "10").await.status, 201, "another caller");
    till.leave.add_permits(1);
    eventually("there is room", BOUND, async || {
        (pay(&gateway, &one, "/pay", "b", "10").await.status == 201).then_some(())
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn who_left_before_the_answer_finds_it_when_asking_again() {
    let folder = tempfile::tempdir().unwrap();
    let till = Till::open().await;
    let (sections, [one, _]) = before(&till, folder.path());
    let gateway = Running::start(&sections).await;
    let mut socket = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!(
        "POST /pay?wait HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {one}\r\nidempotency-key: a\r\ncontent-length: 2\r\n\r\n10"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    eventually("it is under way", BOUND, async || (till.asked() == 1).then_some(())).await;
    drop(socket);
    // Only once the gateway has seen it leave does it matter that the work goes on.
    eventually("the gateway knows", BOUND, async || {
        let metrics = telemetry::render();
        let open = metrics.lines().find(|line| line.split(['{', ' ']).next() == Some(OPEN)).unwrap();
        open.ends_with(" 0").then_some(())
    })
    .await;
    till.leave.add_permits(1);
    let answer = eventually("it is answered", BOUND, async || {
        let answer = pay(&gateway, &one, "/pay?wait", "a", "10").await;
        (answer.status != 409).then_some(answer)
    })
    .await;
    assert_eq!((answer.body.as_str(), answer.header("idempotency-replayed").as_str()), ("done 1", "true"));
    assert_eq!(till.asked(), 1);
    gateway.stop().await;
}
