//! How the broker is reached: by TLS and with a password, in packets that it takes, and what waits while it can't be.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bus::{Claim, Settlement, Verb};
use events::{Data, Envelope};
use serde_json::json;
use testkit::{Certificates, Mosquitto, MosquittoOptions, eventually, mosquitto};

use crate::{Running, SOON, device::Device, name, settings, sqlite};

fn order(id: &str) -> Envelope {
    Envelope::new("/services/order", name("ORDERS"), name("PLACED")).id(id)
}

const ORDERS: &str = r#"{"outbound": [{"name": "o", "events": "ORDERS/*", "topic": "orders"}]}"#;

#[tokio::test]
async fn a_broker_may_want_tls_and_a_password_both_ways() {
    let certificates = Certificates::make();
    let options = MosquittoOptions {
        tls: Some(certificates.clone()),
        account: Some(("turnpike", "secret")),
        ..MosquittoOptions::default()
    };
    let (folder, broker) = (tempfile::tempdir().unwrap(), Mosquitto::start(options).await);
    let bus = sqlite(folder.path()).await;
    let url = format!("mqtts://localhost:{}", broker.port());
    let dispatcher = |client: &str, mappings: &str| {
        let mut settings = settings(&url, mappings);
        settings.client_id = client.to_owned();
        settings.ca = Some(certificates.authority());
        settings.username = Some("turnpike".to_owned());
        settings.password = Some("secret".to_owned().into());
        Running::start(&bus, &settings)
    };
    let taking = dispatcher("taking", r#"{"inbound": [{"topic": "orders", "to": "MORE/CAME"}]}"#);
    let giving = dispatcher("giving", ORDERS);
    let numbers = AtomicU64::new(0);
    eventually("an event comes back by the other one", SOON, async || {
        let id = format!("o{}", numbers.fetch_add(1, Relaxed));
        bus.publish(vec![order(&id)]).await.unwrap().remove(0).unwrap();
        (!crate::recorded(&bus, "MORE").await.is_empty()).then_some(())
    })
    .await;
    giving.drain().await;
    taking.drain().await;
}

#[tokio::test]
async fn an_event_that_the_broker_finds_too_large_is_a_dead_letter_and_holds_up_nothing() {
    let options = MosquittoOptions { max_packet: Some(2000), ..MosquittoOptions::default() };
    let (folder, broker) = (tempfile::tempdir().unwrap(), Mosquitto::start(options).await);
    let bus = sqlite(folder.path()).await;
    let device = Device::connect(&broker, "device").await;
    device.subscribe("orders").await;
    let running = Running::start(&bus, &settings(&broker.url(), ORDERS));
    let mut large = order("large").subject("orders/1");
    large.data = Some(Data::Json(json!("x".repeat(2000))));
    bus.publish(vec![large, order("small").subject("orders/1")]).await.unwrap();
    let heard = device.hears(1).await;
    let properties = heard[0].properties.clone().unwrap().user_properties;
    assert!(properties.contains(&("event-id".to_owned(), "small".to_owned())), "{properties:?}");
    let letters = bus.dead_letters("mqtt.o", (0, 0), 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].envelope.id.as_str()), (1, "large"));
    assert!(letters[0].error.contains("takes 2000"), "{}", letters[0].error);
    running.drain().await;
}

#[tokio::test]
async fn that_the_broker_is_away_is_no_attempt_of_an_event() {
    let (folder, mut broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    broker.stop();
    let running = Running::start(&bus, &settings(&broker.url(), ORDERS));
    bus.publish(vec![order("o1")]).await.unwrap();
    eventually("it waits for the broker", SOON, async || {
        let groups = bus.groups().await.unwrap();
        groups.iter().any(|group| group.name == "mqtt.o" && group.in_flight == 1).then_some(())
    })
    .await;
    running.drain().await;
    // Given back, as the first attempt that it still is.
    let claimed = eventually("it can be had again", SOON, async || {
        let claim = Claim { group: "mqtt.o".to_owned(), member: "m".to_owned(), max: 1, bytes: 1 << 20 };
        bus.claim(claim).await.unwrap().leased.pop()
    })
    .await;
    assert_eq!((claimed.envelope.id.as_str(), claimed.attempt), ("o1", 1));
    bus.settle("mqtt.o", vec![Settlement { token: claimed.token, verb: Verb::Release }]).await.unwrap();
    broker.restart().await;
    let device = Device::connect(&broker, "device").await;
    device.subscribe("orders").await;
    let running = Running::start(&bus, &settings(&broker.url(), ORDERS));
    assert_eq!(device.hears(1).await.len(), 1);
    running.drain().await;
}
