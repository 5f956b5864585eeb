//! What has expired is told to nobody any more, and is no gap either.

use std::time::Duration;

use bus::Queue;
use events::{Envelope, Name};
use serde_json::json;
use time::OffsetDateTime;

use super::lab::{Lab, event, id};

/// An event that matters for a minute.
fn brief(id: &str) -> Envelope {
    Envelope { expirytime: Some(OffsetDateTime::now_utc() + Duration::from_secs(60)), ..event("DB/CREATE", id) }
}

#[tokio::test]
async fn what_has_expired_is_passed_over_on_every_transport() {
    let lab = Lab::open().await;
    lab.bus.declare_queue(Queue { latest: true, ..Queue::new(Name::new("DB").unwrap()) }).await.unwrap();
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.bus.publish(vec![event("DB/CREATE", "1"), brief("2"), event("DB/CREATE", "3")]).await.unwrap();
    assert_eq!(broker.poll(&alice, "filter=DB/*&from=earliest").await.ids(), ["1", "2", "3"], "it is good still");
    lab.later(Duration::from_secs(120));

    assert_eq!(broker.poll(&alice, "filter=DB/*&from=earliest").await.ids(), ["1", "3"]);
    let mut stream = broker.sse(&alice, "filter=DB/*&from=earliest", None).await;
    let told = stream.take(2).await;
    assert_eq!((id(&told[0].data), id(&told[1].data)), ("1", "3"));
    assert_eq!(told[0].data["cursor"], told[1].data["prev"], "nothing is missing in between");

    let mut ws = broker.ws(&alice).await;
    ws.subscribe("s", "DB/*", "earliest", 16).await;
    let replayed = ws.take("s", 2).await;
    assert_eq!((id(&replayed[0]), id(&replayed[1])), ("1", "3"));
    let caught_up = ws.next().await;
    assert!(caught_up["caught_up"].is_object(), "{caught_up}");
    // Of what comes now one has expired before it comes.
    lab.bus.publish(vec![brief("4"), event("DB/CREATE", "5")]).await.unwrap();
    let tailed = ws.event().await;
    assert_eq!((id(&tailed), &tailed["prev"]), ("5", &caught_up["caught_up"]["cursor"]));

    // Nor does a view show what its key was until then.
    lab.bus.publish(vec![brief("6")]).await.unwrap();
    ws.send(json!({ "id": 1, "sub": { "name": "v", "filter": "DB/*", "view": "latest" } })).await;
    assert!(ws.next().await["ok"].is_object());
    assert!(ws.next().await["caught_up"].is_object(), "its last event is over");
}
