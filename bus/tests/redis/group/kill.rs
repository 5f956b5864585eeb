//! A server that is killed in mid-traffic, with `appendfsync always`.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bus::{Bus, Claim, Group, Mode, Settlement, Verb};

use super::node;
use crate::{
    conformance::{event, seconds, status},
    redis::eventually,
};

/// Publishes and consumes while Redis is killed, again and again; what was confirmed must hold.
#[tokio::test]
async fn a_killed_server_loses_and_repeats_nothing_that_was_settled() {
    const EVENTS: usize = 600;
    let mut server = testkit::redis().await;
    let bus = node(&server).await;
    // A claim whose answer was lost leaves leases behind, which end by time.
    let group = Group { lease: seconds(3), ..Group::new("g", "DB/*".parse().unwrap(), Mode::Parallel) };
    bus.declare_group(group).await.unwrap();
    let published = Arc::new(AtomicUsize::new(0));
    let publisher = {
        let (bus, published) = (bus.clone(), published.clone());
        tokio::spawn(async move {
            for n in 0..EVENTS {
                // The id makes a repetition harmless.
                while bus.publish(vec![event(&n.to_string(), &format!("k{n}"))]).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                published.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let member = tokio::spawn(settle_all(bus.clone(), EVENTS));
    for kill in 1..4 {
        let published = published.clone();
        eventually("traffic goes on", || async { published.load(Ordering::Relaxed) >= kill * EVENTS / 5 }).await;
        server.kill();
        server.restart().await;
    }
    tokio::time::timeout(seconds(60), publisher).await.expect("everything is published").unwrap();
    tokio::time::timeout(seconds(90), member).await.expect("everything is settled").unwrap();
    let left = status(&bus, "g").await;
    assert_eq!((left.lag, left.dead), (0, 0));
}

/// Claims and acks until every event is settled, over whatever happens to the server.
async fn settle_all(bus: Bus, events: usize) {
    let pause = || tokio::time::sleep(Duration::from_millis(10));
    let claim = Claim { group: "g".into(), member: "m".into(), max: 20, bytes: 1 << 20 };
    // Those that were acked, and those whose ack may have been lost with its answer.
    let (mut acked, mut unknown) = (HashSet::new(), HashSet::new());
    while acked.union(&unknown).count() < events || bus.groups().await.is_ok_and(|groups| groups[0].lag > 0) {
        let Ok(claimed) = bus.claim(claim.clone()).await else {
            pause().await;
            continue;
        };
        if claimed.leased.is_empty() {
            pause().await;
        }
        for leased in claimed.leased {
            assert!(!acked.contains(&leased.position), "{} comes after its ack", leased.position);
            let mut asked = 1;
            loop {
                match bus.settle("g", vec![Settlement { token: leased.token, verb: Verb::Ack }]).await {
                    Ok(outcomes) if outcomes[0].is_ok() => {
                        assert!(acked.insert(leased.position), "{} is settled twice", leased.position);
                        break;
                    }
                    Ok(_) => {
                        // Its lease ended meanwhile; or an earlier try had settled it.
                        if asked > 1 {
                            unknown.insert(leased.position);
                        }
                        break;
                    }
                    Err(_) => pause().await,
                }
                asked += 1;
            }
        }
    }
}
