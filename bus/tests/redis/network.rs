//! The network between a bus and its Redis: cut, slow, silent. Each publish is recorded once or said not to be known.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bus::{Bus, Error, Mode};
use testkit::{Fault, FaultProxy, Way};

use crate::conformance::{ack, claim, declare, event, eventually, publish, queue, seconds};

const PUBLISHERS: usize = 4;
const EVENTS: usize = 60;

async fn proxied(server: &testkit::Redis) -> (FaultProxy, Bus) {
    let proxy = FaultProxy::start(SocketAddr::from(([127, 0, 0, 1], server.port())), 7).await;
    let bus = bus::redis::open(&format!("redis://{}", proxy.address())).await.unwrap();
    (proxy, bus)
}

/// Publishes in load while `harm` is done to the network, then looks at what is there.
async fn under_load(harm: impl AsyncFn(&FaultProxy, &AtomicUsize)) {
    let server = testkit::redis().await;
    let (proxy, far) = proxied(&server).await;
    let near = bus::redis::open(&server.url()).await.unwrap();
    declare(&near, "g", Mode::Parallel).await;
    let done = Arc::new(AtomicUsize::new(0));
    let publishing: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (bus, done) = (far.clone(), done.clone());
            tokio::spawn(async move {
                let mut confirmed = BTreeMap::new();
                for n in 0..EVENTS {
                    let id = format!("{publisher}-{n}");
                    let recorded = loop {
                        match bus.publish(vec![event(&id, &publisher.to_string())]).await {
                            Ok(mut outcomes) => break outcomes.remove(0).unwrap(),
                            Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                            Err(error) => panic!("{error}"),
                        }
                    };
                    confirmed.insert(recorded.position.unwrap(), id);
                    done.fetch_add(1, Relaxed);
                }
                confirmed
            })
        })
        .collect();
    harm(&proxy, &done).await;
    proxy.set_both(Fault::None);
    let mut confirmed = BTreeMap::new();
    for publishing in publishing {
        confirmed.extend(tokio::time::timeout(seconds(60), publishing).await.expect("in time").unwrap());
    }
    let page = near.read(&queue(), 0, 1, 1000).await.unwrap();
    let recorded: BTreeMap<u64, String> =
        page.events.iter().map(|logged| (logged.position, logged.envelope.id.clone())).collect();
    assert_eq!(recorded, confirmed, "each event once, where its publisher was told");
    assert!(recorded.keys().copied().eq(1..=(PUBLISHERS * EVENTS) as u64), "dense");
    // The same connection claims and settles.
    let leased = claim(&far, "g", 10).await;
    ack(&far, "g", &leased).await;
}

async fn after(done: &AtomicUsize, events: usize) {
    eventually("so many are published", async || done.load(Relaxed) >= events).await;
}

#[tokio::test]
async fn connections_are_reset_in_traffic() {
    under_load(async |proxy, done| {
        for n in 1..5 {
            after(done, n * 30).await;
            proxy.cut();
        }
    })
    .await;
}

#[tokio::test]
async fn answers_are_lost_in_traffic() {
    under_load(async |proxy, done| {
        after(done, 50).await;
        proxy.set(Way::Back, Fault::Swallow);
        // Whoever waits for an answer that never comes gives the connection up.
        let before = proxy.connections();
        testkit::eventually("another connection is made", seconds(30), || async {
            (proxy.connections() > before).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_network_is_only_slow() {
    under_load(async |proxy, done| {
        after(done, 20).await;
        proxy.set_both(Fault::Delay(Duration::from_millis(30)));
        after(done, 80).await;
        proxy.set_both(Fault::Throttle(20_000));
        after(done, 120).await;
    })
    .await;
}

#[tokio::test]
async fn nobody_listens_for_a_while() {
    under_load(async |proxy, done| {
        after(done, 50).await;
        proxy.refuse(true).await;
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(300)).await;
        proxy.refuse(false).await;
    })
    .await;
}

#[tokio::test]
async fn hints_that_are_swallowed_are_heard_again_later() {
    let server = testkit::redis().await;
    let (proxy, far) = proxied(&server).await;
    let near = bus::redis::open(&server.url()).await.unwrap();
    publish(&near, &[("a", "k")]).await;
    proxy.set_both(Fault::Swallow);
    let before = proxy.connections();
    testkit::eventually("both connections are given up", seconds(30), || async {
        (proxy.connections() >= before + 2).then_some(())
    })
    .await;
    proxy.set_both(Fault::None);
    eventually("it is there again", async || far.read(&queue(), 0, 1, 1).await.is_ok()).await;
}
