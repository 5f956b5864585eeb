//! Endpoints that come and go with the addresses of a name.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use upstream::{Answer, Config, Discovery, ErrorKind, Health, Protocol, Resolve, Target, Upstream};

use crate::service::{SAFE, Service, UNSAFE, get, hello, text, until};

const THINGS: &str = "srv://_http._tcp.things.internal";

/// A name server of one name, which can be told what to say, also nothing.
#[derive(Default)]
struct Names(Mutex<Option<Vec<SocketAddr>>>);

impl Names {
    fn say(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap() = Some(addresses.to_vec());
    }

    fn fail(&self) {
        *self.0.lock().unwrap() = None;
    }
}

impl Resolve for Names {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Answer<IpAddr>>> {
        unreachable!("{host} has an address")
    }

    /// Ports are what the services of a test differ in, and only targets have them.
    fn targets<'a>(&'a self, service: &'a str) -> BoxFuture<'a, io::Result<Answer<Target>>> {
        assert_eq!(service, "_http._tcp.things.internal");
        let said = self.0.lock().unwrap().clone();
        let answer = said.ok_or_else(|| io::Error::other("the name server is away"));
        let target = |at: SocketAddr| Target { host: at.ip().to_string(), port: at.port(), priority: 0, weight: 1 };
        async move { answer.map(|said| Answer::new(said.into_iter().map(target).collect(), Duration::ZERO)) }.boxed()
    }
}

fn by(names: &Arc<Names>) -> Discovery {
    Discovery { resolver: Some(Arc::clone(names) as Arc<dyn Resolve>), ..Discovery::default() }
}

fn following(names: &Arc<Names>, health: Option<Health>) -> (Upstream, DropGuard) {
    let config = Config::new("things", vec![THINGS.to_owned()], Protocol::Http1);
    let config = Config { health, retry: upstream::Retry { attempts: 0, ..Default::default() }, ..config };
    let upstream = Upstream::found_by(config, &by(names)).unwrap();
    let stop = CancellationToken::new();
    let (watched, stopped) = (upstream.clone(), stop.clone());
    tokio::spawn(async move { watched.watch(stopped).await });
    (upstream, stop.drop_guard())
}

fn addresses(upstream: &Upstream) -> Vec<String> {
    let there = upstream.endpoints().into_iter().filter(|endpoint| !endpoint.draining);
    there.map(|endpoint| endpoint.address).collect()
}

#[tokio::test]
async fn an_address_joins_and_leaves_and_no_request_is_lost() {
    let leave = Arc::new(Semaphore::new(0));
    let waits = Arc::new(AtomicUsize::new(0));
    let (awaited, counted) = (Arc::clone(&leave), Arc::clone(&waits));
    let one = Service::http1(move |request| {
        let (leave, waits) = (Arc::clone(&awaited), Arc::clone(&counted));
        async move {
            if request.uri().path() == "/wait" {
                waits.fetch_add(1, SeqCst);
                leave.acquire().await.unwrap().forget();
            }
            hello(request).await
        }
    })
    .await;
    let two = Service::http1(hello).await;
    let names = Arc::<Names>::default();
    names.say(&[one.address]);
    let (upstream, _watch) = following(&names, None);
    let client = upstream.client();
    text(client.send(get("/"), UNSAFE).await.unwrap()).await;
    assert_eq!(upstream.endpoints()[0].source.as_deref(), Some(THINGS));

    let waiting = tokio::spawn({
        let client = client.clone();
        async move { text(client.send(get("/wait"), UNSAFE).await.unwrap()).await }
    });
    until("one waits at the first", || waits.load(SeqCst) > 0).await;
    let ended = Arc::new(AtomicBool::new(false));
    let (busy, until_then) = (client.clone(), Arc::clone(&ended));
    let requests = tokio::spawn(async move {
        while !until_then.load(SeqCst) {
            let response = busy.send(get("/"), UNSAFE).await.unwrap();
            assert_eq!(response.status(), 200);
            text(response).await;
        }
    });
    names.say(&[one.address, two.address]);
    until("the new one has requests", || two.requests() > 0).await;

    names.say(&[two.address]);
    until("the first is gone", || addresses(&upstream) == [two.address.to_string()]).await;
    let (before, there) = (one.requests(), two.requests());
    until("requests go on", || two.requests() > there + 10).await;
    // One may have been sent before and counted after.
    assert!(one.requests() <= before + 1, "{} and {before}", one.requests());
    leave.add_permits(1);
    // What was under way is finished.
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    ended.store(true, SeqCst);
    requests.await.unwrap();
}

#[tokio::test]
async fn an_address_that_stands_in_the_configuration_too_is_one_endpoint() {
    let names = Arc::<Names>::default();
    let (one, two) = (SocketAddr::from(([127, 0, 0, 1], 7001)), SocketAddr::from(([127, 0, 0, 2], 7001)));
    names.say(&[one, two]);
    let endpoints = vec![THINGS.to_owned(), one.to_string()];
    let config = Config::new("things", endpoints, Protocol::Http1);
    let upstream = Upstream::found_by(config, &by(&names)).unwrap();
    let stop = CancellationToken::new();
    let (watched, stopped, _guard) = (upstream.clone(), stop.clone(), stop.drop_guard());
    tokio::spawn(async move { watched.watch(stopped).await });
    until("the other is found", || upstream.endpoints().len() > 1).await;
    assert_eq!(addresses(&upstream), [two.to_string(), one.to_string()]);
}

#[tokio::test]
async fn who_is_gone_is_no_longer_in_the_metrics() {
    let (one, two) = (Service::http1(hello).await, Service::http1(hello).await);
    let names = Arc::<Names>::default();
    names.say(&[one.address, two.address]);
    let (upstream, watch) = following(&names, None);
    let is_shown = |address: SocketAddr| {
        telemetry::render().lines().any(|line| {
            line.starts_with("turnpike_upstream_endpoint_healthy{") && line.contains(&format!("\"{address}\""))
        })
    };
    until("both are found", || upstream.endpoints().len() == 2).await;
    // A client that has chosen among both, and holds both until it chooses again.
    let client = upstream.client();
    text(client.send(get("/"), SAFE).await.unwrap()).await;
    assert!(is_shown(one.address) && is_shown(two.address));
    names.say(&[two.address]);
    until("the first is gone", || upstream.endpoints().len() == 1).await;
    assert!(!is_shown(one.address) && is_shown(two.address));
    names.say(&[one.address, two.address]);
    until("the first is back", || upstream.endpoints().len() == 2).await;
    assert!(is_shown(one.address));
    drop((client, upstream, watch));
    until("nothing is left of the upstream", || !is_shown(one.address) && !is_shown(two.address)).await;
}

#[tokio::test]
async fn a_name_server_in_trouble_changes_nothing() {
    let service = Service::http1(hello).await;
    let names = Arc::<Names>::default();
    names.say(&[service.address]);
    let (upstream, _watch) = following(&names, None);
    until("it is found", || !upstream.endpoints().is_empty()).await;
    names.fail();
    until("a look-up fails", || upstream.sources()[0].error.is_some()).await;
    let source = &upstream.sources()[0];
    assert_eq!(
        (&source.addresses[..], source.error.as_deref()),
        (&[service.address.to_string()][..], Some("the name server is away"))
    );
    assert!(source.found_seconds_ago.is_some());
    assert_eq!(addresses(&upstream), [service.address.to_string()]);
    text(upstream.client().send(get("/"), SAFE).await.unwrap()).await;
    names.say(&[]);
    until("nothing is found", || upstream.sources()[0].error.as_deref() == Some("the name has no address")).await;
    assert_eq!(addresses(&upstream), [service.address.to_string()], "nothing is no address either");
}

#[tokio::test]
async fn a_request_waits_for_the_first_address_but_not_for_ever() {
    let service = Service::http1(hello).await;
    let names = Arc::<Names>::default();
    let (upstream, _watch) = following(&names, None);
    let client = upstream.client();
    let error = client.send(get("/"), SAFE).await.unwrap_err();
    assert_eq!((error.kind, &*error.detail), (ErrorKind::Unreachable, "no address is known"));
    let waiting = tokio::spawn(async move {
        loop {
            match client.send(get("/"), SAFE).await {
                Ok(response) => return response.status(),
                Err(error) => assert_eq!(error.kind, ErrorKind::Unreachable),
            }
        }
    });
    names.say(&[service.address]);
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap(), 200);
}

#[tokio::test]
async fn an_address_that_joins_is_checked_too() {
    let (one, two) = (Service::http1(hello).await, Service::http1(hello).await);
    let names = Arc::<Names>::default();
    names.say(&[one.address]);
    let interval = Duration::from_millis(20);
    let health = Health { interval, timeout: Duration::from_secs(5), path: Some("/livez".to_owned()) };
    let (upstream, _watch) = following(&names, Some(health));
    let known = |address: SocketAddr| {
        let endpoints = upstream.endpoints();
        endpoints
            .iter()
            .any(|endpoint| endpoint.address == address.to_string() && endpoint.reason.starts_with("answers"))
    };
    until("the first is checked", || known(one.address)).await;
    names.say(&[one.address, two.address]);
    until("the second is checked", || known(two.address)).await;
    names.say(&[two.address]);
    until("the first is gone", || upstream.endpoints().len() == 1).await;
    let before = one.requests();
    until("the second is checked on", {
        let there = two.requests();
        move || two.requests() > there + 5
    })
    .await;
    assert!(one.requests() <= before + 1, "who is gone is left alone");
}

#[tokio::test]
async fn the_system_knows_this_machine() {
    let service = Service::http1(hello).await;
    let name = format!("dns://localhost:{}", service.address.port());
    let upstream = Upstream::new(Config::new("things", vec![name], Protocol::Http1)).unwrap();
    let stop = CancellationToken::new();
    let (watched, stopped) = (upstream.clone(), stop.clone());
    let watching = tokio::spawn(async move { watched.watch(stopped).await });
    text(upstream.client().send(get("/"), SAFE).await.unwrap()).await;
    assert!(addresses(&upstream).contains(&service.address.to_string()));
    stop.cancel();
    watching.await.unwrap();
}
