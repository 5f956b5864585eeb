use database::{Error, params};
use events::Envelope;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use outbox::{Event, Relay};
use serde_json::json;
use telemetry::TraceContext;
use time::OffsetDateTime;
use tracing::Instrument as _;
use tracing_subscriber::{layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{SOURCE, Shop, Working, all_sent, log, logged, update};

#[tokio::test]
async fn an_event_arrives_as_it_was_appended() {
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        let mut tx = database.begin().await.unwrap();
        let mut event = Event::new("DB/CREATE", "products/42", json!({ "name": "Lamp", "tags": [null, 1.5] }));
        event.id = Some("my-id".to_owned());
        event.causation_id = Some("cause".to_owned());
        event.correlation_id = Some("correlation".to_owned());
        event.owner = Some("customers/7".to_owned());
        outbox::append(&mut tx, SOURCE, event).await.unwrap();
        tx.commit().await.unwrap();
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        let arrived = logged(&bus, 1).await.remove(0);
        assert_eq!((arrived.id.as_str(), arrived.source.as_str()), ("my-id", SOURCE));
        assert_eq!((arrived.queue.as_str(), arrived.event.as_str()), ("DB", "CREATE"));
        assert_eq!(arrived.r#type, "turnpike.db.create");
        assert_eq!((arrived.subject.as_deref(), arrived.key()), (Some("products/42"), "products/42"));
        assert_eq!(arrived.causationid.as_deref(), Some("cause"));
        assert_eq!(arrived.correlationid.as_deref(), Some("correlation"));
        assert_eq!(arrived.owner.as_deref(), Some("customers/7"));
        assert_eq!(arrived.json(), Some(&json!({ "name": "Lamp", "tags": [null, 1.5] })));
        assert!((OffsetDateTime::now_utc() - arrived.time).abs() < time::Duration::minutes(1));
        relay.drain().await;
    }
}

#[tokio::test]
async fn an_event_belongs_to_the_trace_it_was_appended_in() {
    let tracer = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).build();
    let layer = tracing_opentelemetry::layer().with_tracer(tracer.tracer("test"));
    let _subscriber = tracing_subscriber::registry().with(layer).set_default();
    let parent = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        let span = tracing::info_span!("create");
        telemetry::set_parent(&span, &parent);
        update(&database, "lamp").instrument(span).await;
        update(&database, "lamp").await;
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        let log = logged(&bus, 2).await;
        let trace = TraceContext::parse(log[0].traceparent.as_deref().unwrap()).unwrap();
        assert_eq!((trace.trace_id, trace.sampled), (parent.trace_id, true));
        assert_ne!(trace.span_id, parent.span_id);
        assert_eq!(log[1].traceparent, None);
        relay.drain().await;
    }
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published() {
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        let mut tx = database.begin().await.unwrap();
        outbox::append(&mut tx, SOURCE, Event::new("DB/CREATE", "products/1", json!({}))).await.unwrap();
        tx.rollback().await.unwrap();
        update(&database, "2").await;
        assert_eq!(logged(&bus, 1).await[0].subject.as_deref(), Some("products/2"));
        relay.drain().await;
    }
}

#[tokio::test]
async fn what_the_bus_would_refuse_does_not_get_in() {
    for shop in Shop::every().await {
        let database = shop.database().await;
        let mut tx = database.begin().await.unwrap();
        let large = json!("x".repeat(Envelope::MAX_DATA_BYTES));
        for (field, event) in [
            ("data", Event::new("DB/CREATE", "products/1", large)),
            ("subject", Event::new("DB/CREATE", "", json!({}))),
            ("id", Event { id: Some("a.b".to_owned()), ..Event::new("DB/CREATE", "products/1", json!({})) }),
        ] {
            let refused = outbox::append(&mut tx, SOURCE, event).await.unwrap_err();
            assert!(matches!(&refused, Error::Query(reason) if reason.contains(field)), "{refused}");
        }
        tx.commit().await.unwrap();
        assert!(database.query("SELECT seq FROM outbox", &[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_batch_is_kept_within_what_the_bus_takes() {
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        let mut tx = database.begin().await.unwrap();
        for number in 0..12 {
            let event = Event::new("DB/CREATE", format!("products/{number}"), json!("x".repeat(250 * 1024)));
            outbox::append(&mut tx, SOURCE, event).await.unwrap();
        }
        for number in 0..600 {
            let event = Event::new("DB/CREATE", format!("small/{number}"), json!(number));
            outbox::append(&mut tx, SOURCE, event).await.unwrap();
        }
        tx.commit().await.unwrap();
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        logged(&bus, 612).await;
        relay.drain().await;
    }
}

#[tokio::test]
async fn what_was_sent_a_week_ago_is_forgotten() {
    for shop in Shop::every().await {
        let (database, bus) = (shop.database().await, shop.bus().await);
        update(&database, "1").await;
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        all_sent(&database).await;
        relay.drain().await;
        let mut tx = database.begin().await.unwrap();
        let week_ago = OffsetDateTime::now_utc() - time::Duration::days(7) - time::Duration::hours(1);
        tx.execute("UPDATE outbox SET sent_at = $1", params![week_ago]).await.unwrap();
        tx.commit().await.unwrap();
        update(&database, "2").await;
        let relay = Working::start(Relay::new(database.clone(), bus.clone(), SOURCE));
        all_sent(&database).await;
        relay.drain().await;
        let kept = database.query("SELECT key FROM outbox", &[]).await.unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].get::<String>("key").unwrap(), "products/2");
        assert_eq!(log(&bus).await.len(), 2);
    }
}
