//! Who is taken out, who is given a rest, what is too much: on real sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use http::Response;
use upstream::{Balance, Body, Breaker, Caps, Client, Config, Ejection, ErrorKind, Options, Protocol, Retry, Upstream};

use crate::service::{SAFE, Service, UNSAFE, config, get, grpc, hello, nobody, text, trailers_only, until};

const MS: Duration = Duration::from_millis(1);

/// Answers as long as it is told to; else says that it can't.
struct Moody {
    service: Service,
    is_well: Arc<AtomicBool>,
}

impl Moody {
    async fn start() -> Self {
        let is_well = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_well);
        let service = Service::http1(move |request| {
            let is_well = asked.load(SeqCst);
            async move { if is_well { hello(request).await } else { status(503) } }
        })
        .await;
        Self { service, is_well }
    }
}

fn status(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

/// No breaker, no retry, and none shunned for its slowness: what is tested is the ejection.
fn ejecting(config: Config, time: Duration) -> Config {
    let ejection = Ejection { time, longest: time * 10, ..Ejection::default() };
    let retry = Retry { attempts: 0, ..Retry::default() };
    Config { ejection: Some(ejection), breaker: None, retry, balance: Balance::RoundRobin, ..config }
}

fn states(upstream: &Upstream) -> Vec<&'static str> {
    upstream.endpoints().iter().map(|endpoint| endpoint.state).collect()
}

/// Sends until something holds.
#[expect(clippy::panic, reason = "a test fails by panicking")]
async fn ask_until(client: &Client, options: impl Fn() -> Options, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        _ = client.send(get("/"), options()).await;
        // What fails together is one failure.
        tokio::time::sleep(11 * MS).await;
    }
    panic!("it never came to that");
}

#[tokio::test]
async fn one_that_fails_is_ejected_with_the_reason_and_back_without_traffic() {
    let (sick, well) = (Moody::start().await, Service::http1(hello).await);
    let config = ejecting(config(Protocol::Http1, &[sick.service.address, well.address]), 500 * MS);
    let upstream = Upstream::new(config).unwrap();
    let client = upstream.client();
    ask_until(&client, || SAFE, || states(&upstream) == ["ejected", "well"]).await;
    let view = upstream.endpoints().remove(0);
    assert_eq!(view.reason, "its requests failed, time 1 of late: it answered 503 Service Unavailable");
    assert!(view.healthy && view.until_seconds == Some(1));
    assert_eq!(sick.service.requests(), 5, "five in a row");

    let before = sick.service.requests();
    for _ in 0..20 {
        if states(&upstream) == ["ejected", "well"] {
            let response = client.send(get("/"), SAFE).await.unwrap();
            assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, "hello"));
        }
    }
    assert!(sick.service.requests() <= before + 1, "but for one at the very end of its time");

    sick.is_well.store(true, SeqCst);
    // Nobody asks for anything.
    until("its time is over", || states(&upstream) == ["well", "well"]).await;
    ask_until(&client, || SAFE, || sick.service.requests() > before + 2).await;
    assert_eq!(states(&upstream), ["well", "well"]);
}

#[tokio::test]
async fn a_frozen_instance_is_noticed_by_its_silence() {
    for protocol in [Protocol::Http1, Protocol::Grpc] {
        let never = |_| std::future::pending();
        let frozen =
            if protocol == Protocol::Http1 { Service::http1(never).await } else { Service::http2(never).await };
        let config = ejecting(config(protocol, &[frozen.address]), Duration::from_secs(60));
        let upstream = Upstream::new(config).unwrap();
        let client = upstream.client();
        ask_until(&client, || Options::within(20 * MS), || states(&upstream) == ["ejected"]).await;
        assert!(upstream.endpoints()[0].reason.ends_with("no answer within the deadline"));
        assert!(upstream.is_in_panic(), "it is all there is");
    }
}

#[tokio::test]
async fn a_caller_in_a_hurry_condemns_nobody() {
    let service = Service::http2(|_| async {
        tokio::time::sleep(50 * MS).await;
        grpc(&[b"one"], &[("grpc-status", "0")])
    })
    .await;
    let config = ejecting(config(Protocol::Grpc, &[service.address]), Duration::from_secs(60));
    let breaker = Some(Breaker { requests: 5, ..Breaker::default() });
    let upstream = Upstream::new(Config { breaker, ..config }).unwrap();
    let client = upstream.client();
    for _ in 0..10 {
        let mut request = get("/a.B/C");
        request.headers_mut().insert("grpc-timeout", "10m".parse().unwrap());
        let error = client.send(request, Options::within(Duration::from_secs(20))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Deadline);
        tokio::time::sleep(11 * MS).await;
    }
    assert_eq!((states(&upstream), upstream.endpoints()[0].failures), (vec!["well"], 0));
    assert_eq!(upstream.breaker().unwrap().state, "closed");
}

#[tokio::test]
async fn grpc_that_is_unavailable_is_a_failure_and_other_statuses_are_answers() {
    let code = Arc::new(AtomicUsize::new(5));
    let asked = Arc::clone(&code);
    let service = Service::http2(move |_| {
        let code = asked.load(SeqCst).to_string();
        async move { trailers_only(&[("grpc-status", &code)]) }
    })
    .await;
    let config = ejecting(config(Protocol::Grpc, &[service.address]), Duration::from_secs(60));
    let upstream = Upstream::new(config).unwrap();
    let client = upstream.client();
    for other in [1, 2, 3, 4, 5, 8, 13] {
        code.store(other, SeqCst);
        client.send(get("/a.B/C"), UNSAFE).await.unwrap();
    }
    assert_eq!(upstream.endpoints()[0].failures, 0);
    code.store(14, SeqCst);
    ask_until(&client, || UNSAFE, || states(&upstream) == ["ejected"]).await;
    assert!(upstream.endpoints()[0].reason.ends_with("it answered UNAVAILABLE"));
}

#[tokio::test]
async fn where_most_are_out_all_are_asked() {
    let sick = [Moody::start().await, Moody::start().await];
    let well = Service::http1(hello).await;
    let addresses = [sick[0].service.address, sick[1].service.address, well.address];
    let config = ejecting(config(Protocol::Http1, &addresses), Duration::from_secs(60));
    let ejection = Some(Ejection { percent: 100, time: Duration::from_secs(60), ..Ejection::default() });
    let upstream = Upstream::new(Config { ejection, ..config }).unwrap();
    let client = upstream.client();
    ask_until(&client, || SAFE, || states(&upstream) == ["ejected", "ejected", "well"]).await;
    assert!(upstream.is_in_panic());
    sick.iter().for_each(|sick| sick.is_well.store(true, SeqCst));
    let before = sick[0].service.requests() + sick[1].service.requests();
    ask_until(&client, || SAFE, || sick[0].service.requests() + sick[1].service.requests() > before + 5).await;
    assert_eq!(states(&upstream), ["ejected", "ejected", "well"], "the time stands");
}

#[tokio::test]
async fn a_tenth_and_at_least_one_may_be_out() {
    let sick = [Moody::start().await, Moody::start().await];
    let well = Service::http1(hello).await;
    let addresses = [sick[0].service.address, sick[1].service.address, well.address];
    let config = ejecting(config(Protocol::Http1, &addresses), Duration::from_secs(60));
    let upstream = Upstream::new(config).unwrap();
    let client = upstream.client();
    let requests = || (sick[0].service.requests(), sick[1].service.requests());
    ask_until(&client, || SAFE, || requests().0.min(requests().1) >= 5 && requests().0.max(requests().1) >= 8).await;
    assert_eq!(states(&upstream).iter().filter(|state| **state == "ejected").count(), 1);
}

fn breaking(config: Config) -> Config {
    let breaker = Breaker { open: 300 * MS, ramp: 300 * MS, ..Breaker::default() };
    let retry = Retry { attempts: 0, ..Retry::default() };
    Config { breaker: Some(breaker), ejection: None, retry, ..config }
}

fn breaker(upstream: &Upstream) -> &'static str {
    upstream.breaker().unwrap().state
}

#[tokio::test]
async fn a_service_that_fails_is_given_a_rest_then_probed_then_asked_again() {
    let sick = Moody::start().await;
    let upstream = Upstream::new(breaking(config(Protocol::Http1, &[sick.service.address]))).unwrap();
    let client = upstream.client();
    for _ in 0..20 {
        assert_eq!(client.send(get("/"), SAFE).await.unwrap().status(), 503);
    }
    assert_eq!((breaker(&upstream), sick.service.requests()), ("open", 20));
    let error = client.send(get("/"), SAFE).await.unwrap_err();
    let ErrorKind::Open { retry_after } = error.kind else { panic!("{error}") };
    assert!(retry_after <= 300 * MS && upstream.breaker().unwrap().half_open_in_seconds.is_some());
    // A client of another core finds it open too.
    assert!(matches!(upstream.client().send(get("/"), SAFE).await.unwrap_err().kind, ErrorKind::Open { .. }));
    assert_eq!(sick.service.requests(), 20, "it was not asked");

    // One probe, which fails: open again.
    ask_until(&client, || SAFE, || sick.service.requests() == 21).await;
    assert_eq!(breaker(&upstream), "open");
    sick.is_well.store(true, SeqCst);
    ask_until(&client, || SAFE, || breaker(&upstream) == "closed").await;
    assert_eq!(text(client.send(get("/"), SAFE).await.unwrap()).await, "hello");
}

#[tokio::test]
async fn half_open_one_at_a_time_passes() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_slow);
    let service = Service::http1(move |_| {
        let is_slow = asked.load(SeqCst);
        async move {
            if is_slow {
                tokio::time::sleep(100 * MS).await;
            }
            status(503)
        }
    })
    .await;
    let upstream = Upstream::new(breaking(config(Protocol::Http1, &[service.address]))).unwrap();
    let client = upstream.client();
    for _ in 0..20 {
        client.send(get("/"), SAFE).await.unwrap();
    }
    is_slow.store(true, SeqCst);
    tokio::time::sleep(300 * MS).await;
    let answers = join_all((0..10).map(|_| client.send(get("/"), SAFE))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(service.requests(), 21);
}

#[tokio::test]
async fn a_service_that_nobody_reaches_is_given_a_rest_and_retries_are_not_requests() {
    let upstream = Upstream::new(Config { ejection: None, ..config(Protocol::Http1, &[nobody().await]) }).unwrap();
    let client = upstream.client();
    for number in 0..20 {
        assert_eq!(client.send(get("/"), SAFE).await.unwrap_err().kind, ErrorKind::Unreachable, "{number}");
    }
    assert!(matches!(client.send(get("/"), SAFE).await.unwrap_err().kind, ErrorKind::Open { .. }));
    let page = telemetry::render();
    assert!(page.contains(r#"turnpike_upstream_breaker{upstream="test"} 3"#), "{page}");
}

#[tokio::test]
async fn what_retries_save_opens_no_breaker() {
    let well = Service::http1(hello).await;
    let config = Config { ejection: None, ..config(Protocol::Http1, &[nobody().await, well.address]) };
    let upstream = Upstream::new(config).unwrap();
    let client = upstream.client();
    for _ in 0..60 {
        text(client.send(get("/"), SAFE).await.unwrap()).await;
    }
    assert_eq!(breaker(&upstream), "closed");
}

#[tokio::test]
async fn one_request_too_many_is_refused_at_once_until_a_body_ends() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let endless = |_| async { Response::new(crate::stream::endless()) };
        let service =
            if protocol == Protocol::Http1 { Service::http1(endless).await } else { Service::http2(endless).await };
        let caps = Caps { requests: 3, ..Caps::default() };
        let upstream = Upstream::new(Config { caps, ..config(protocol, &[service.address]) }).unwrap();
        // The cap is of all cores together.
        let clients = [upstream.client(), upstream.client()];
        let mut open = Vec::new();
        for number in 0..3 {
            open.push(clients[number % 2].send(get("/"), SAFE).await.unwrap());
        }
        let error = clients[1].send(get("/"), SAFE).await.unwrap_err();
        assert_eq!((error.kind, error.detail.as_ref()), (ErrorKind::Full, "too many requests are under way"));
        assert_eq!(service.requests(), 3, "it was not asked");
        open.pop();
        clients[1].send(get("/"), SAFE).await.unwrap();
        assert_eq!((breaker(&upstream), upstream.endpoints()[0].failures), ("closed", 0));
    }
}

#[tokio::test]
async fn connections_and_waiting_have_caps_of_their_own() {
    let service = Service::http1(|_| async { Response::new(crate::stream::endless()) }).await;
    let caps = Caps { connections: 1, ..Caps::default() };
    let upstream = Upstream::new(Config { caps, ..config(Protocol::Http1, &[service.address]) }).unwrap();
    let client = upstream.client();
    let open = client.send(get("/"), SAFE).await.unwrap();
    let error = client.send(get("/"), SAFE).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_ref()), (ErrorKind::Full, "too many connections are open"));
    drop(open);
    ask_until(&client, || SAFE, || service.requests() > 1).await;
    let page = telemetry::render();
    assert!(page.contains(r#"turnpike_upstream_refused_total{reason="connections",upstream="test"}"#), "{page}");
}
