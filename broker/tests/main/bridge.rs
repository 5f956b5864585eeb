//! Plain `PUBLISH` becomes events, by one node at a time.

use std::time::Duration;

use broker::{BridgeConfig, Settings};
use bus::Logged;
use events::Name;
use serde_json::json;
use testkit::{Redis, eventually};

use crate::follow::lab::{Lab, Running};

const SOON: Duration = Duration::from_secs(60);

/// A Redis, whose channels nodes bridge into the bus that is on it.
struct Site {
    lab: Lab,
    redis: Redis,
}

impl Site {
    async fn begin() -> Self {
        Self { lab: Lab::open().await, redis: testkit::redis().await }
    }

    async fn node(&self) -> Running {
        let bus = bus::redis::open(&self.redis.url()).await.unwrap();
        let url = self.redis.url();
        let config = format!(
            "{{redis: '{url}', channels: [{{pattern: 'orders.*', queue: ORDERS, event: CHANGED}}, \
             {{pattern: '*:hint', queue: LOOP, event: HINT}}]}}"
        );
        let config: BridgeConfig = serde_saphyr::from_str(&config).unwrap();
        self.lab.broker_bridging(bus, Settings::default(), config.bridge().unwrap()).await
    }

    /// Publishes until so many listen to it.
    async fn is_heard(&self) {
        eventually("somebody listens", SOON, || async {
            (self.redis.command(&["PUBSUB", "NUMPAT"]).trim() == "2").then_some(())
        })
        .await;
    }

    async fn log(&self, count: usize) -> Vec<Logged> {
        let bus = bus::redis::open(&self.redis.url()).await.unwrap();
        let queue = Name::new("ORDERS").unwrap();
        eventually(&format!("there are {count} events"), SOON, || async {
            let page = bus.read(&queue, 0, 1, 1000).await.ok()?;
            (page.events.len() >= count).then_some(page.events)
        })
        .await
    }
}

#[tokio::test]
async fn what_is_published_becomes_events_in_order() {
    let site = Site::begin().await;
    let _node = site.node().await;
    site.is_heard().await;
    for n in 0..20 {
        site.redis.command(&["PUBLISH", "orders.7", &format!("{{\"n\":{n}}}")]);
    }
    site.redis.command(&["PUBLISH", "others.7", "not bridged"]);
    site.redis.command(&["PUBLISH", "orders.8", "plain text"]);
    let log = site.log(21).await;
    let numbers: Vec<_> = log[..20].iter().map(|logged| logged.envelope.json().unwrap()["n"].clone()).collect();
    assert_eq!(numbers, (0..20).map(|n| json!(n)).collect::<Vec<_>>());
    let last = &log[20].envelope;
    assert_eq!(
        (last.subject.as_deref(), last.key(), last.source.as_str()),
        (Some("orders.8"), "orders.8", "/bridge/redis")
    );
    assert_eq!(last.datacontenttype.as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(log.len(), 21);
    // The bus's own hints would make another one each.
    let bus = bus::redis::open(&site.redis.url()).await.unwrap();
    assert!(bus.queues().await.unwrap().iter().all(|queue| queue.settings.name.as_str() != "LOOP"));
}

#[tokio::test]
async fn what_is_no_event_is_left_out_and_a_cut_is_mended() {
    let site = Site::begin().await;
    let _node = site.node().await;
    site.is_heard().await;
    let publish = |channel: &str, size: usize| {
        let script = format!("return redis.call('PUBLISH', '{channel}', string.rep('x', {size}))");
        site.redis.command(&["EVAL", &script, "0"]);
    };
    publish("orders.7", 256 * 1024 + 1);
    publish("orders.\\255\\254", 1);
    publish("orders.\\n", 1);
    publish("turnpike:bridge:orders.", 1);
    publish("orders.7", 256 * 1024);
    assert_eq!(site.log(1).await.len(), 1);
    site.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    // What is published before it is mended is lost.
    let log = eventually("it hears again", SOON, || async {
        site.redis.command(&["PUBLISH", "orders.8", "\"again\""]);
        Some(site.log(1).await).filter(|log| log.len() > 1)
    })
    .await;
    assert!(log[1..].iter().all(|logged| logged.envelope.key() == "orders.8"));
}

#[tokio::test]
async fn one_node_listens_and_another_goes_on_after_it() {
    let site = Site::begin().await;
    let nodes = [site.node().await, site.node().await];
    site.is_heard().await;
    site.redis.command(&["PUBLISH", "orders.1", "1"]);
    assert_eq!(site.log(1).await.len(), 1, "once, though two nodes could");
    let [first, second] = nodes;
    // Whichever it was: after both orderly departures of one, the other one listens.
    first.stop(Duration::from_secs(20)).await;
    site.is_heard().await;
    site.redis.command(&["PUBLISH", "orders.1", "2"]);
    assert_eq!(site.log(2).await.len(), 2);
    second.stop(Duration::from_secs(20)).await;
}
