//! A node that stops sends its clients on.

use std::time::Duration;

use broker::Settings;
use lifecycle::Role as _;
use serde_json::json;

use super::lab::{Lab, id};

#[tokio::test]
async fn clients_are_sent_away_within_the_drain() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { drain: Duration::from_millis(300), ..Settings::default() }).await;
    let alice = lab.alice();
    let (mut ws, mut stream) = (broker.ws(&alice).await, broker.sse(&alice, "filter=DB/*", None).await);
    ws.subscribe("s", "DB/*", "latest", 256).await;
    assert!(ws.next().await["caught_up"].is_object());
    assert_eq!(stream.next().await.unwrap().event, "caught_up");
    let waiting = broker.poll(&alice, "filter=DB/*&wait=60s");
    let stop = async {
        testkit::eventually("the poll waits", crate::site::SOON, || async {
            (lab.bus.roster().here().len() == 3).then_some(())
        })
        .await;
        // Patience is long: it ends because everyone has left.
        broker.shutdown.begin(Duration::from_secs(300));
    };
    let (answer, ()) = tokio::join!(waiting, stop);
    assert_eq!(answer.status, 204, "who waits is answered");
    let goaway = ws.next().await["goaway"].take();
    assert_eq!(goaway, json!({ "reason": "drain", "retry": true, "after_ms": [200, 8000] }));
    assert_eq!(ws.closed().await.0, 4000);
    let last = stream.next().await.unwrap();
    assert!((200..=8000).contains(&last.retry.unwrap().parse::<u32>().unwrap()));
    assert!(stream.next().await.is_none(), "a clean end");
    drop((ws, stream));
    broker.stop(Duration::from_secs(300)).await;
}

#[tokio::test]
async fn what_is_dropped_is_dropped_at_once() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { drain: Duration::from_secs(300), ..Settings::default() }).await;
    let alice = lab.alice();
    let mut ws = broker.ws(&alice).await;
    ws.subscribe("s", "DB/*", "latest", 256).await;
    let _stream = broker.sse(&alice, "filter=*/*", None).await;
    broker.shutdown.escalate();
    assert_eq!(ws.closed().await.0, 4000);
    broker.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_stream_is_rotated_and_goes_on() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { rotation: Duration::from_millis(300), ..Settings::default() }).await;
    let alice = lab.alice();
    let mut stream = broker.sse(&alice, "filter=DB/*", None).await;
    let mut last = String::new();
    while let Some(told) = stream.next().await {
        last = told.id;
    }
    lab.publish("DB/CREATE", 0..1).await;
    let mut stream = broker.sse(&alice, "filter=DB/*", Some(&last)).await;
    assert_eq!(id(&stream.event().await.data), "0", "nothing was missed in between");
}

#[tokio::test]
async fn a_socket_shows_again_who_it_is_for_when_its_time_is_over() {
    let lab = Lab::open().await;
    let broker = lab.broker_with(Settings { rotation: Duration::from_millis(300), ..Settings::default() }).await;
    let mut ws = broker.ws(&lab.alice()).await;
    let goaway = ws.next().await["goaway"].take();
    assert_eq!(goaway, json!({ "reason": "auth", "retry": true, "after_ms": [200, 8000] }));
    assert_eq!(ws.closed().await.0, 4004);
}

#[tokio::test]
async fn it_is_not_ready_while_it_drains() {
    let lab = Lab::open().await;
    let config = broker::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        bus: lab.bus.clone(),
        issuers: Vec::new(),
        root: None,
        database: None,
        settings: Settings::default(),
    };
    let broker = broker::build(config).await.unwrap();
    let (readiness, shutdown) = (broker.readiness(), lifecycle::Shutdown::new());
    assert!(!readiness.is_ready());
    let running = tokio::spawn(Box::new(broker).run(shutdown.clone()));
    testkit::eventually("it is ready", crate::site::SOON, || async { readiness.is_ready().then_some(()) }).await;
    shutdown.begin(Duration::from_secs(5));
    running.await.unwrap().unwrap();
    assert!(!readiness.is_ready());
}
