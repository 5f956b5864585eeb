//! What a message becomes, and what an event does.

use events::{Data, Envelope};
use rumqttc::mqttbytes::v5::PublishProperties;
use serde_json::json;
use testkit::{eventually, mosquitto};

use crate::{Running, SOON, comes_to, device::Device, json, name, settings, sqlite};

#[tokio::test]
async fn a_message_becomes_the_event_that_it_is_mapped_to() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let mappings = r#"{"inbound": [
        {"topic": "shop/+/orders/+", "to": "ORDERS/{2}", "subject": "stores/{1}", "key": "{1}"},
        {"topic": "raw/#", "to": "RAW/CAME", "subject": "{topic}", "data": "binary"}
    ]}"#;
    let running = Running::start(&bus, &settings(&broker.url(), mappings));
    let device = Device::connect(&broker, "device").await;
    // The first one also says that the dispatcher has subscribed.
    eventually("a message comes through", SOON, async || {
        device.publish("raw/probe", "1").await;
        (!crate::recorded(&bus, "RAW").await.is_empty()).then_some(())
    })
    .await;
    let given = PublishProperties {
        message_expiry_interval: Some(600),
        user_properties: vec![
            ("event-id".to_owned(), "order-1".to_owned()),
            ("traceparent".to_owned(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        ],
        ..PublishProperties::default()
    };
    device.publish_with("shop/berlin/orders/placed", r#"{"total": 3}"#, given.clone()).await;
    device.publish_with("shop/berlin/orders/placed", r#"{"total": 3}"#, given).await;
    device.publish("shop/berlin/orders/paid", "not json").await;
    device.publish("raw/a/b", "{}").await;
    let orders = comes_to(&bus, "ORDERS", 2).await;
    let [placed, paid] = &orders[..] else { panic!("the same id is the same event: {orders:#?}") };
    assert_eq!(
        (placed.id.as_str(), placed.event.as_str(), placed.source.as_str()),
        ("order-1", "PLACED", "/mqtt/turnpike")
    );
    assert_eq!((placed.subject.as_deref(), placed.key()), (Some("stores/berlin"), "berlin"));
    assert_eq!(*json(placed), json!({"total": 3}));
    assert!(placed.expirytime.is_some());
    assert!(placed.traceparent.as_deref().unwrap().contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    assert_eq!(paid.data, Some(Data::Binary(b"not json".to_vec())));
    eventually("bytes stay bytes", SOON, async || {
        let raw = crate::recorded(&bus, "RAW").await;
        let last = raw.last()?;
        (last.subject.as_deref() == Some("raw/a/b") && last.data == Some(Data::Binary(b"{}".to_vec()))).then_some(())
    })
    .await;
    running.drain().await;
}

#[tokio::test]
async fn a_message_that_can_not_become_its_event_is_kept_as_rejected() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let mappings = r#"{"inbound": [{"topic": "a/+", "to": "DB/{1}", "data": "json"}]}"#;
    let running = Running::start(&bus, &settings(&broker.url(), mappings));
    let device = Device::connect(&broker, "device").await;
    eventually("a message comes through", SOON, async || {
        device.publish("a/probe", "1").await;
        (!crate::recorded(&bus, "DB").await.is_empty()).then_some(())
    })
    .await;
    device.publish("a/update", "no json").await;
    device.publish("a/wrong name", "{}").await;
    let rejected = comes_to(&bus, "MQTT", 2).await;
    let told: Vec<_> =
        rejected.iter().map(|event| (json(event)["topic"].clone(), json(event)["reason"].to_string())).collect();
    assert_eq!(told[0].0, "a/update");
    assert!(told[0].1.contains("not JSON"), "{told:?}");
    assert_eq!(told[1].0, "a/wrong name");
    assert!(told[1].1.contains("name"), "{told:?}");
    running.drain().await;
}

#[tokio::test]
async fn an_event_becomes_a_message_and_neither_comes_back() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let mappings = r#"{
        "inbound": [{"topic": "shop/#", "to": "ORDERS/CAME"}],
        "outbound": [{"name": "orders", "events": "ORDERS/*", "topic": "shop/{event}/{subject}"}]
    }"#;
    let running = Running::start(&bus, &settings(&broker.url(), mappings));
    let device = Device::connect(&broker, "device").await;
    device.subscribe("shop/PLACED/#").await;
    eventually("a message comes through", SOON, async || {
        device.publish("shop/probe", "1").await;
        (!crate::recorded(&bus, "ORDERS").await.is_empty()).then_some(())
    })
    .await;
    let mut event = Envelope::new("/services/order", name("ORDERS"), name("PLACED")).id("o1").subject("orders/1");
    event.data = Some(Data::Json(json!({"total": 3})));
    bus.publish(vec![event]).await.unwrap().remove(0).unwrap();
    let heard = device.hears(1).await;
    assert_eq!((&heard[0].topic[..], &heard[0].payload[..]), (&b"shop/PLACED/orders/1"[..], &br#"{"total":3}"#[..]));
    let properties = heard[0].properties.clone().unwrap();
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    assert!(properties.user_properties.contains(&("event-id".to_owned(), "o1".to_owned())));
    // The broker gives the dispatcher its own message before this one; the bus has it already.
    device.publish("shop/last", "2").await;
    let all = eventually("what came after it is recorded", SOON, async || {
        let all = crate::recorded(&bus, "ORDERS").await;
        all.iter().any(|event| event.data == Some(Data::Json(json!(2)))).then_some(all)
    })
    .await;
    let placed = all.iter().filter(|event| event.data == Some(Data::Json(json!({"total": 3})))).count();
    assert_eq!(placed, 1, "{all:#?}");
    // What came by MQTT is the dispatcher's own: the group has settled it, and nothing was sent.
    eventually("the group is done", SOON, async || {
        let groups = bus.groups().await.unwrap();
        groups.iter().any(|group| group.name == "mqtt.orders" && group.lag == 0 && group.in_flight == 0).then_some(())
    })
    .await;
    running.drain().await;
    assert_eq!(device.hears(1).await.len(), 1);
}

#[tokio::test]
async fn an_event_that_no_topic_can_be_made_of_is_a_dead_letter() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), mosquitto().await);
    let bus = sqlite(folder.path()).await;
    let mappings = r#"{"outbound": [{"name": "o", "events": "ORDERS/*", "topic": "{subject}"}]}"#;
    let running = Running::start(&bus, &settings(&broker.url(), mappings));
    bus.publish(vec![Envelope::new("/s", name("ORDERS"), name("PLACED")).subject("a/#")]).await.unwrap();
    eventually("it is dead", SOON, async || {
        let letters = bus.dead_letters("mqtt.o", (0, 0), 10).await.ok()?;
        letters.iter().any(|letter| letter.error.contains("no topic")).then_some(())
    })
    .await;
    running.drain().await;
}
