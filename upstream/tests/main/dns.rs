//! Endpoints by DNS, on a name server of the test's own.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use hickory_resolver::proto::rr::RecordType;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use upstream::{Client, Config, Health, Protocol, Upstream};

use crate::{
    name_server::NameServer,
    service::{SAFE, Service, get, hello, text, until},
};

fn following(names: &NameServer, endpoints: &[&str], health: Option<Health>) -> (Upstream, DropGuard) {
    let endpoints = endpoints.iter().map(ToString::to_string).collect();
    let config =
        Config { name_servers: vec![names.address], health, ..Config::new("things", endpoints, Protocol::Http1) };
    let upstream = Upstream::new(config).unwrap();
    let stop = CancellationToken::new();
    let (watched, stopped) = (upstream.clone(), stop.clone());
    tokio::spawn(async move { watched.watch(stopped).await });
    (upstream, stop.drop_guard())
}

fn addresses(upstream: &Upstream) -> Vec<String> {
    let there = upstream.endpoints().into_iter().filter(|endpoint| !endpoint.draining);
    there.map(|endpoint| endpoint.address).collect()
}

fn error(upstream: &Upstream) -> Option<String> {
    upstream.sources()[0].error.clone()
}

/// Services on one port, at 127.0.0.1, 127.0.0.2, and so on.
async fn neighbours(count: u8) -> (Vec<Service>, u16) {
    'port: for _ in 0..100 {
        let mut services = vec![Service::http1(hello).await];
        let port = services[0].address.port();
        for number in 2..=count {
            let address = SocketAddr::from(([127, 0, 0, number], port));
            if std::net::TcpListener::bind(address).is_err() {
                continue 'port;
            }
            services.push(Service::http1_at(address, hello).await);
        }
        return (services, port);
    }
    panic!("no port is free on {count} addresses");
}

/// One request after the other, all of which must be answered.
struct Busy(Arc<AtomicBool>, JoinHandle<()>);

impl Busy {
    fn start(client: Client) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until_then = Arc::clone(&ended);
        let requests = tokio::spawn(async move {
            while !until_then.load(SeqCst) {
                text(client.send(get("/"), SAFE).await.unwrap()).await;
            }
        });
        Self(ended, requests)
    }

    async fn end(self) {
        self.0.store(true, SeqCst);
        self.1.await.unwrap();
    }
}

#[tokio::test]
async fn another_address_is_used_when_the_ttl_of_the_first_is_over() {
    let names = NameServer::start().await;
    let (services, port) = neighbours(2).await;
    names.say_addresses("things.test", 1, &[1]);
    let (upstream, _watch) = following(&names, &[&format!("dns://things.test:{port}")], None);
    let client = upstream.client();
    text(client.send(get("/"), SAFE).await.unwrap()).await;
    let busy = Busy::start(client);

    let mut took = Vec::new();
    for round in 0..4 {
        let (old, new) = (round % 2, (round + 1) % 2);
        names.say_addresses("things.test", 1, &[u16::try_from(new + 1).unwrap()]);
        let changed = Instant::now();
        let before = services[new].requests();
        until("the new one has requests", || services[new].requests() > before + 1).await;
        took.push(changed.elapsed());
        let (gone, there) = (services[old].requests(), services[new].requests());
        until("requests go on", || services[new].requests() > there + 10).await;
        assert_eq!(services[old].requests(), gone, "who is gone gets nothing new");
    }
    busy.end().await;
    println!("with a TTL of 1 s, another address was used after {took:?}");
}

#[tokio::test]
async fn a_name_is_asked_for_again_when_its_answer_holds_no_longer_and_not_before() {
    let names = NameServer::start().await;
    names.say_addresses("short.test", 0, &[1]);
    names.say_addresses("long.test", 3600, &[2]);
    // What an alias stands for may hold for longer than the alias.
    names.say_alias("alias.test", 1, "long.test");
    let sources = ["dns://short.test:1", "dns://long.test:2", "dns://alias.test:3"];
    let (upstream, _watch) = following(&names, &sources, None);
    until("short and alias are asked for again", || {
        names.questions("short.test", RecordType::A) > 2 && names.questions("alias.test", RecordType::A) > 2
    })
    .await;
    assert_eq!(names.questions("long.test", RecordType::A), 1);
    let sources = upstream.sources();
    assert!(sources[0].renewed_in_seconds.unwrap() <= 1, "at the earliest after a second");
    // Not when its hour is over, since it may be wrong by then.
    assert!((200..=300).contains(&sources[1].renewed_in_seconds.unwrap()), "{sources:?}");
    assert_eq!(addresses(&upstream), ["127.0.0.1:1", "127.0.0.2:2", "127.0.0.2:3"]);
}

#[tokio::test]
async fn what_a_name_server_can_t_tell_takes_nothing_away() {
    let names = NameServer::start().await;
    let service = Service::http1(hello).await;
    names.say_addresses("things.test", 1, &[1]);
    let (upstream, _watch) = following(&names, &[&format!("dns://things.test:{}", service.address.port())], None);
    until("it is found", || !addresses(&upstream).is_empty()).await;
    names.fail("things.test", RecordType::A);
    names.fail("things.test", RecordType::AAAA);
    until("it can't be looked up", || error(&upstream).is_some()).await;
    let shown = telemetry::render();
    let gauge = shown.lines().find(|line| line.starts_with("turnpike_upstream_source_known{"));
    assert!(gauge.is_some_and(|line| line.ends_with(" 0")), "{gauge:?}");
    assert_eq!(addresses(&upstream), [service.address.to_string()]);
    text(upstream.client().send(get("/"), SAFE).await.unwrap()).await;
    // Half an answer adds.
    names.say_addresses("things.test", 1, &[2]);
    names.fail("things.test", RecordType::AAAA);
    until("the other is found too", || addresses(&upstream).len() == 2).await;
    assert!(error(&upstream).is_some());
    names.say_addresses("things.test", 1, &[2]);
    until("the first is gone", || addresses(&upstream).len() == 1).await;
    assert_eq!(error(&upstream), None);
}

#[tokio::test]
async fn a_name_that_is_not_known_yet_is_found_once_it_is() {
    let names = NameServer::start().await;
    let service = Service::http1(hello).await;
    let (upstream, _watch) = following(&names, &[&format!("dns://things.test:{}", service.address.port())], None);
    until("it has no address", || error(&upstream).as_deref() == Some("the name has no address")).await;
    names.say_addresses("things.test", 1, &[1]);
    until("it is found", || addresses(&upstream) == [service.address.to_string()]).await;
}

#[tokio::test]
async fn an_answer_too_long_for_a_datagram_comes_by_tcp() {
    let names = NameServer::start().await;
    names.say_addresses("crowd.test", 60, &(1..=200).collect::<Vec<_>>());
    let (upstream, _watch) = following(&names, &["dns://crowd.test:7001"], None);
    until("all are found", || addresses(&upstream).len() == 200).await;
}

#[tokio::test]
async fn the_targets_of_a_service_have_ports_weights_and_the_names_of_their_hosts() {
    let names = NameServer::start().await;
    let (one, two) = (Service::http1(hello).await, Service::http1(hello).await);
    let targets = [(10, 3, one.address.port(), "one.things.test"), (10, 0, two.address.port(), "two.things.test")];
    names.say_targets("_http._tcp.things.test", 1, &targets);
    names.say_addresses("one.things.test", 60, &[1]);
    names.say_addresses("two.things.test", 60, &[1]);
    let (upstream, _watch) = following(&names, &["srv://_http._tcp.things.test"], None);
    until("both are found", || addresses(&upstream).len() == 2).await;
    let mut weights: Vec<_> = upstream.endpoints().into_iter().map(|one| (one.weight, one.priority)).collect();
    weights.sort_unstable();
    assert_eq!(weights, [(1, 10), (3, 10)], "a weight of 0 is a small one");
    let client = upstream.client();
    until("both have requests", {
        let busy = Busy::start(client);
        move || {
            let both = one.requests() > 0 && two.requests() > 0;
            if both {
                busy.0.store(true, SeqCst);
            }
            both
        }
    })
    .await;
    names.say_targets("_http._tcp.things.test", 1, &targets[..1]);
    until("the second is gone", || addresses(&upstream).len() == 1).await;
    // The root as the only target: decidedly not to be had, which is believed later.
    names.say_targets("_http._tcp.things.test", 1, &[(0, 0, 0, ".")]);
    until("there is nothing", || error(&upstream).is_some()).await;
    assert_eq!(addresses(&upstream).len(), 1);
}

#[tokio::test]
async fn targets_of_a_higher_priority_stand_back_while_another_is_healthy() {
    let names = NameServer::start().await;
    let mut first = Service::http1(hello).await;
    let second = Service::http1(|request| async move {
        // Health checks are no requests of ours.
        if request.uri().path() == "/" {
            SECOND.fetch_add(1, SeqCst);
        }
        hello(request).await
    })
    .await;
    static SECOND: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let targets = [(10, 1, first.address.port(), "things.test"), (20, 1, second.address.port(), "things.test")];
    names.say_targets("_http._tcp.things.test", 1, &targets);
    names.say_addresses("things.test", 60, &[1]);
    let interval = Duration::from_millis(20);
    let health = Health { interval, timeout: Duration::from_secs(5), path: Some("/livez".to_owned()) };
    let (upstream, _watch) = following(&names, &["srv://_http._tcp.things.test"], Some(health));
    until("both are checked", || {
        let checked = |one: &upstream::Endpoint| one.reason.starts_with("answers");
        upstream.endpoints().iter().filter(|one| checked(one)).count() == 2
    })
    .await;
    let client = upstream.client();
    for _ in 0..50 {
        text(client.send(get("/"), SAFE).await.unwrap()).await;
    }
    assert_eq!(SECOND.load(SeqCst), 0, "it stands back");

    let address = first.address;
    first.kill().await;
    until("the first is found to be down", || upstream.endpoints().iter().any(|one| !one.healthy)).await;
    let asked = tokio::spawn({
        let client = client.clone();
        async move {
            while SECOND.load(SeqCst) == 0 {
                if let Ok(response) = client.send(get("/"), SAFE).await {
                    text(response).await;
                }
            }
        }
    });
    tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap().unwrap();

    let first = Service::http1_at(address, hello).await;
    until("the first is back", || upstream.endpoints().iter().all(|one| one.healthy)).await;
    let busy = Busy::start(client);
    let mut seen = (0, 0);
    until("only the first has requests", || {
        let now = (first.requests(), SECOND.load(SeqCst));
        let only_first = now.1 == seen.1 && now.0 > seen.0 + 20;
        if now.1 != seen.1 || now.0 > seen.0 + 20 {
            seen = now;
        }
        only_first
    })
    .await;
    busy.end().await;
}
