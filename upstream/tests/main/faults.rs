//! A network that fails, for each protocol: whatever happens, a request has an answer or an error that says why, and one
//! that isn't idempotent is done once at most. The service counts what it has done.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use testkit::{Fault, FaultProxy, Way, eventually};
use upstream::{Body, Client, Config, Error, ErrorKind, Options, Protocol, Retry, Upstream};

use crate::service::{SAFE, Service, UNSAFE, config, post};

const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Http2, Protocol::Grpc];
/// Much more than anything takes, for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the service has done what each body asked for.
type Done = Arc<Mutex<HashMap<String, usize>>>;

/// A service that answers each body, read whole, with itself, behind a network that fails.
struct Stage {
    protocol: Protocol,
    service: Service,
    proxy: FaultProxy,
    done: Done,
    client: Client,
}

impl Stage {
    async fn of(protocol: Protocol) -> Self {
        Self::with(protocol, false, Retry::default()).await
    }

    /// `has_other`: the same service is also there on a network that doesn't fail.
    async fn with(protocol: Protocol, has_other: bool, retry: Retry) -> Self {
        let done = Done::default();
        let service = serve(protocol, &done).await;
        let proxy = FaultProxy::start(service.address, 1).await;
        let mut endpoints = vec![proxy.address()];
        endpoints.extend(has_other.then_some(service.address));
        let config = Config { retry, ..config(protocol, &endpoints) };
        let client = Upstream::new(config).unwrap().client();
        Self { protocol, service, proxy, done, client }
    }

    /// Has a connection through the proxy, and answers at it.
    async fn warm(self) -> Self {
        while self.proxy.connections() == 0 {
            self.ask("warm", SAFE).await.unwrap();
        }
        self
    }

    async fn ask(&self, what: &str, options: Options) -> Result<String, Failed> {
        ask(&self.client, self.protocol, what, options).await
    }

    fn times_done(&self, what: &str) -> usize {
        self.done.lock().unwrap().get(what).copied().unwrap_or_default()
    }
}

async fn serve(protocol: Protocol, done: &Done) -> Service {
    let done = Arc::clone(done);
    let handler = move |request: Request<Incoming>| {
        let done = Arc::clone(&done);
        async move {
            let Ok(body) = request.into_body().collect().await else { return Response::new(Body::empty()) };
            let body = body.to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            *done.lock().unwrap().entry(text).or_default() += 1;
            if protocol == Protocol::Grpc {
                crate::service::grpc(&[&body], &[("grpc-status", "0")])
            } else {
                Response::new(Body::from(body))
            }
        }
    };
    match protocol {
        Protocol::Http1 => Service::http1(handler).await,
        Protocol::Http2 | Protocol::Grpc => Service::http2(handler).await,
    }
}

#[derive(Debug)]
enum Failed {
    /// There was no answer.
    Head(Error),
    /// It broke off.
    Body,
}

impl Failed {
    fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Head(error) => Some(error.kind),
            Self::Body => None,
        }
    }
}

/// Sends a body and waits for all of its answer; nothing may take forever.
async fn ask(client: &Client, protocol: Protocol, what: &str, options: Options) -> Result<String, Failed> {
    let mut request = post("/", what.to_owned());
    if protocol == Protocol::Grpc {
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    }
    let asked = async {
        let response = client.send(request, options).await.map_err(Failed::Head)?;
        let body = response.into_body().collect().await.map_err(|_| Failed::Body)?.to_bytes();
        let message = if protocol == Protocol::Grpc { body.slice(5.min(body.len())..) } else { body };
        Ok(String::from_utf8_lossy(&message).into_owned())
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap()
}

fn once() -> Retry {
    Retry { attempts: 0, ..Retry::default() }
}

#[tokio::test]
async fn an_answer_cut_in_its_head_is_no_answer_and_a_post_is_not_done_again() {
    for protocol in PROTOCOLS {
        let stage = Stage::of(protocol).await.warm().await;
        stage.proxy.set(Way::Back, Fault::CutAfter(4));
        let failed = stage.ask("order", UNSAFE).await.unwrap_err();
        assert_eq!((failed.kind(), stage.times_done("order")), (Some(ErrorKind::Broken), 1), "{protocol:?}");
        stage.proxy.set(Way::Back, Fault::None);
        assert_eq!(stage.ask("next", UNSAFE).await.unwrap(), "next", "{protocol:?}: it is as if nothing had been");
    }
}

#[tokio::test]
async fn an_answer_cut_in_its_head_costs_no_idempotent_request() {
    for protocol in PROTOCOLS {
        let stage = Stage::with(protocol, true, Retry::default()).await.warm().await;
        for number in 0..10 {
            stage.proxy.set(Way::Back, Fault::CutAfter(4));
            let what = number.to_string();
            assert_eq!(stage.ask(&what, SAFE).await.unwrap(), what, "{protocol:?}");
            assert!(stage.times_done(&what) <= 2);
            stage.proxy.set(Way::Back, Fault::None);
        }
    }
}

#[tokio::test]
async fn an_answer_cut_in_its_body_is_told_and_never_begun_again() {
    let what = "x".repeat(60_000);
    for protocol in PROTOCOLS {
        let stage = Stage::of(protocol).await.warm().await;
        stage.proxy.set(Way::Back, Fault::CutAfter(30_000));
        let failed = stage.ask(&what, SAFE).await.unwrap_err();
        assert!(matches!(failed, Failed::Body), "{protocol:?}: {failed:?}");
        assert_eq!(stage.times_done(&what), 1, "{protocol:?}: its head had been handed on");
    }
}

#[tokio::test]
async fn a_request_cut_in_its_body_is_repeated_only_where_it_may_be() {
    let what = "x".repeat(60_000);
    for protocol in PROTOCOLS {
        let stage = Stage::with(protocol, false, once()).await.warm().await;
        stage.proxy.set(Way::Out, Fault::CutAfter(20_000));
        let failed = stage.ask(&what, UNSAFE).await.unwrap_err();
        assert_eq!((failed.kind(), stage.times_done(&what)), (Some(ErrorKind::Broken), 0), "{protocol:?}");

        let stage = Stage::with(protocol, true, Retry::default()).await.warm().await;
        stage.proxy.set(Way::Out, Fault::CutAfter(20_000));
        for _ in 0..5 {
            assert!(stage.ask(&what, SAFE).await.unwrap() == what, "{protocol:?}");
        }
        assert_eq!(stage.times_done(&what), 5);
    }
}

#[tokio::test]
async fn connections_cut_while_they_are_idle_cost_nothing() {
    for protocol in PROTOCOLS {
        let stage = Stage::of(protocol).await.warm().await;
        for number in 0..20 {
            stage.proxy.cut();
            // Whether or not it is known by then: what was sent in vain is repeated where it may be.
            let safe = format!("safe {number}");
            assert_eq!(stage.ask(&safe, SAFE).await.unwrap(), safe, "{protocol:?}");
            stage.proxy.cut();
            let order = format!("order {number}");
            let answer = stage.ask(&order, UNSAFE).await;
            assert!(stage.times_done(&order) <= 1);
            assert!(answer.is_err() || stage.times_done(&order) == 1, "{protocol:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_vanished_is_a_deadline_and_then_forgotten() {
    for protocol in PROTOCOLS {
        let stage = Stage::with(protocol, false, once()).await.warm().await;
        stage.proxy.set_both(Fault::Swallow);
        let failed = stage.ask("order", Options::within(Duration::from_millis(200))).await.unwrap_err();
        assert_eq!((failed.kind(), stage.times_done("order")), (Some(ErrorKind::Deadline), 0), "{protocol:?}");
        stage.proxy.set_both(Fault::None);
        // HTTP/1.1 has given the connection up; HTTP/2 asks whether it lives, and takes another when no answer comes.
        eventually("it is called on another connection", PATIENCE, || async {
            stage.ask("again", Options::within(Duration::from_millis(500)).idempotent()).await.ok()
        })
        .await;
    }
}

#[tokio::test]
async fn a_peer_that_vanished_costs_a_try_where_tries_are_bounded() {
    for protocol in PROTOCOLS {
        let retry = Retry { per_try_timeout: Some(Duration::from_millis(100)), ..Retry::default() };
        let stage = Stage::with(protocol, true, retry).await.warm().await;
        stage.proxy.set_both(Fault::Swallow);
        for number in 0..6 {
            let what = number.to_string();
            assert_eq!(stage.ask(&what, SAFE).await.unwrap(), what, "{protocol:?}");
        }
        // Nothing bounds the try of what may not be repeated but its deadline.
        stage.proxy.set_both(Fault::None);
    }
}

#[tokio::test]
async fn what_comes_after_the_deadline_is_too_late_and_not_repeated() {
    for protocol in PROTOCOLS {
        let stage = Stage::of(protocol).await.warm().await;
        stage.proxy.set(Way::Back, Fault::Delay(Duration::from_secs(2)));
        let failed = stage.ask("order", Options::within(Duration::from_millis(300))).await.unwrap_err();
        assert_eq!(failed.kind(), Some(ErrorKind::Deadline), "{protocol:?}");
        let failed = stage.ask("safe", Options::within(Duration::from_millis(300)).idempotent()).await.unwrap_err();
        assert_eq!(failed.kind(), Some(ErrorKind::Deadline), "{protocol:?}");
        assert!(stage.times_done("order") <= 1 && stage.times_done("safe") <= 1);
    }
}

#[tokio::test]
async fn a_slow_network_brings_all_of_it() {
    let what = "x".repeat(20_000);
    for protocol in PROTOCOLS {
        let stage = Stage::of(protocol).await;
        stage.proxy.set_both(Fault::Throttle(100_000));
        assert!(stage.ask(&what, UNSAFE).await.unwrap() == what, "{protocol:?}");
    }
}

#[tokio::test]
async fn an_instance_that_refuses_connections_fails_nothing_while_there_is_another() {
    for protocol in PROTOCOLS {
        let stage = Stage::with(protocol, true, Retry::default()).await.warm().await;
        stage.proxy.refuse(true).await;
        stage.proxy.cut();
        for number in 0..20 {
            let what = number.to_string();
            let answer = stage.ask(&what, UNSAFE).await;
            // The first may have been on its way when its connection was cut.
            assert!(number < 2 || answer.is_ok(), "{protocol:?}: {answer:?}");
            assert!(stage.times_done(&what) <= 1, "{protocol:?}");
        }
        assert!(stage.service.requests() > 0);
    }
}

#[tokio::test]
async fn corrupt_bytes_break_a_connection_and_nothing_else() {
    for protocol in PROTOCOLS {
        let stage = Stage::of(protocol).await;
        stage.proxy.set(Way::Back, Fault::Corrupt { every: 200 });
        let mut errors = 0;
        for number in 0..60 {
            let what = format!("order {number}");
            let asked = stage.ask(&what, Options::within(Duration::from_millis(500)));
            // A length that was hit makes an answer that never ends; whoever reads it has bounds of his own.
            let answer = tokio::time::timeout(Duration::from_secs(1), asked).await;
            errors += usize::from(!matches!(answer, Ok(Ok(_))));
            assert!(stage.times_done(&what) <= 1, "{protocol:?}");
        }
        assert!(errors > 0, "{protocol:?}: nothing was hit");
        stage.proxy.set(Way::Back, Fault::None);
        eventually("it is well again", PATIENCE, || async {
            stage.ask("well", Options::within(Duration::from_secs(1)).idempotent()).await.ok()
        })
        .await;
    }
}

/// Faults in a sequence that a seed repeats, for hundreds of requests at a time, to two endpoints.
#[tokio::test]
async fn in_a_storm_nothing_is_done_twice_and_nothing_is_answered_that_was_not_done() {
    for protocol in PROTOCOLS {
        for seed in 1..=3 {
            storm(protocol, seed).await;
        }
    }
}

async fn storm(protocol: Protocol, seed: u64) {
    let done = Done::default();
    let services = [serve(protocol, &done).await, serve(protocol, &done).await];
    let proxies =
        [FaultProxy::start(services[0].address, seed).await, FaultProxy::start(services[1].address, seed + 100).await];
    let config = config(protocol, &[proxies[0].address(), proxies[1].address()]);
    let client = Upstream::new(Config { breaker: None, ..config }).unwrap().client();
    let faults = [
        Fault::None,
        Fault::CutAfter(40),
        Fault::Delay(Duration::from_millis(30)),
        Fault::CutAfter(400),
        Fault::Throttle(20_000),
        Fault::CutAfter(3),
        Fault::Swallow,
    ];
    let mut answered = 0;
    for round in 0..24 {
        let step = usize::try_from(seed).unwrap() + round;
        let proxy = &proxies[step % 2];
        proxy.set(if step % 3 == 0 { Way::Out } else { Way::Back }, faults[step * 5 % faults.len()]);
        let asked = (0..12).map(|number| {
            let (what, client) = (format!("{round}/{number}"), &client);
            async move {
                let options = Options::within(Duration::from_millis(400));
                let options = if number % 2 == 0 { options } else { options.idempotent() };
                (ask(client, protocol, &what, options).await, what, number % 2 == 0)
            }
        });
        let asked = join_all(asked);
        let cutting = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            proxies[round % 2].cut();
        };
        for (answer, what, is_order) in tokio::join!(asked, cutting).0 {
            let times = done.lock().unwrap().get(&what).copied().unwrap_or_default();
            assert!(times <= if is_order { 1 } else { 2 }, "{protocol:?}, seed {seed}: {what} was done {times} times");
            if let Ok(text) = answer {
                assert_eq!(text, what, "{protocol:?}, seed {seed}");
                assert!(times >= 1, "{protocol:?}, seed {seed}: {what} was answered and not done");
                answered += 1;
            }
        }
        proxy.set_both(Fault::None);
    }
    assert!(answered > 24 * 12 / 3, "{protocol:?}, seed {seed}: {answered}");
    // What was under way when nobody waited for it any more may come later, and then only once.
    let done = done.lock().unwrap();
    let twice = done.iter().find(|(what, times)| **times > 1 && is_order(what));
    assert_eq!(twice, None, "{protocol:?}, seed {seed}");
}

fn is_order(what: &str) -> bool {
    what.rsplit_once('/').and_then(|(_, number)| number.parse::<usize>().ok()).is_some_and(|number| number % 2 == 0)
}
