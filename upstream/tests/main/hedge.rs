//! A second try beside the first, where the first takes long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use upstream::{After, Body, Client, Config, Hedge, Options, Protocol, Upstream};

use crate::service::{SAFE, Service, config, get, grpc, text, until};

/// Longer than any test has patience for.
const NEVER: Duration = Duration::from_secs(60);

/// Two instances; each stands still for the requests it gets while it is told to, and counts those that were given up.
struct Pair {
    stands: Arc<[AtomicBool; 2]>,
    given_up: Arc<AtomicUsize>,
    services: [Service; 2],
    client: Client,
}

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Pair {
    async fn start(protocol: Protocol, after: After) -> Self {
        let (stands, given_up) = (Arc::<[AtomicBool; 2]>::default(), Arc::<AtomicUsize>::default());
        let handler = |number: usize| {
            let (stands, given_up) = (Arc::clone(&stands), Arc::clone(&given_up));
            move |_: Request<Incoming>| {
                let (stands, given_up) = (Arc::clone(&stands), Arc::clone(&given_up));
                async move {
                    if stands[number].load(SeqCst) {
                        let _waiting = Waiting(given_up);
                        tokio::time::sleep(NEVER).await;
                    }
                    let word = number.to_string();
                    if protocol == Protocol::Grpc {
                        return grpc(&[word.as_bytes()], &[("grpc-status", "0")]);
                    }
                    Response::new(Body::from(word))
                }
            }
        };
        let services = match protocol {
            Protocol::Http1 => [Service::http1(handler(0)).await, Service::http1(handler(1)).await],
            _ => [Service::http2(handler(0)).await, Service::http2(handler(1)).await],
        };
        let mut config = config(protocol, &[services[0].address, services[1].address]);
        config.hedge = Some(Hedge { after, max: 1 });
        let client = Upstream::new(config).unwrap().client();
        Self { stands, given_up, services, client }
    }

    fn requests(&self) -> usize {
        self.services.iter().map(Service::requests).sum()
    }
}

#[tokio::test]
async fn an_instance_that_stands_still_costs_a_moment() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let pair = Pair::start(protocol, After::Time(Duration::from_millis(30))).await;
        // Who stands still is drawn first sooner or later; each draw costs a hedge from the budget.
        pair.stands[0].store(true, SeqCst);
        let within = Options { deadline: Some(std::time::Instant::now() + NEVER / 2), ..SAFE };
        let mut tries = 0;
        while pair.given_up.load(SeqCst) == 0 && tries < 100 {
            assert_eq!(text(pair.client.send(get("/"), within).await.unwrap()).await, "1");
            tries += 1;
            tokio::task::yield_now().await;
        }
        until("the other try is given up", || pair.given_up.load(SeqCst) > 0).await;
        assert!(pair.requests() > tries);
    }
}

#[tokio::test]
async fn a_grpc_call_is_hedged_too() {
    let pair = Pair::start(Protocol::Grpc, After::Time(Duration::from_millis(30))).await;
    pair.stands[1].store(true, SeqCst);
    for _ in 0..20 {
        let reply = pair.client.unary("/a.B/C", Default::default(), Default::default(), SAFE).await.unwrap();
        assert_eq!(&reply.message[..], b"0");
    }
    until("one was given up", || pair.given_up.load(SeqCst) > 0).await;
}

#[tokio::test]
async fn what_is_not_safe_is_never_sent_twice() {
    let pair = Pair::start(Protocol::Http1, After::Time(Duration::from_millis(10))).await;
    pair.stands.iter().for_each(|stands| stands.store(true, SeqCst));
    let idempotent = Options::within(Duration::from_millis(200)).idempotent();
    pair.client.send(get("/"), idempotent).await.unwrap_err();
    assert_eq!(pair.requests(), 1, "a PUT that comes twice at once may be two different ones");
}

#[tokio::test]
async fn the_budget_bounds_hedges() {
    let pair = Pair::start(Protocol::Http1, After::Time(Duration::from_millis(10))).await;
    pair.stands.iter().for_each(|stands| stands.store(true, SeqCst));
    let soon = || Options { deadline: Some(std::time::Instant::now() + Duration::from_millis(300)), ..SAFE };
    let requests = (0..50).map(|_| pair.client.send(get("/"), soon()));
    let failed = futures_util::future::join_all(requests).await;
    assert!(failed.iter().all(Result::is_err));
    let requests = pair.requests();
    assert!((51..=64).contains(&requests), "50, a fifth of them again and three: {requests}");
}

#[tokio::test]
async fn what_is_usual_is_measured() {
    let pair = Pair::start(Protocol::Http1, After::P95).await;
    for _ in 0..60 {
        pair.client.send(get("/"), SAFE).await.unwrap();
    }
    pair.stands[0].store(true, SeqCst);
    for _ in 0..20 {
        assert_eq!(text(pair.client.send(get("/"), SAFE).await.unwrap()).await, "1");
    }
}

#[test]
fn alone_it_has_nobody_to_hedge_with() {
    let hedge = Some(Hedge { after: After::P95, max: 4 });
    let config = Config { hedge, ..config(Protocol::Http1, &["127.0.0.1:1".parse().unwrap()]) };
    assert_eq!(Upstream::new(config).err().unwrap().path, "hedge.max");
}
