//! A cursor that was changed or cut short is told from one that is none, on every transport.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::BodyExt as _;
use principal::METADATA;
use serde_json::{Value, json};

use super::lab::{Lab, Running};

/// What each transport says of it.
async fn refusals(broker: &Running, token: &str, cursor: &str) -> [String; 4] {
    let polled = broker.poll(token, &format!("filter=DB/*&cursor={cursor}")).await;
    assert_eq!(polled.status, 400, "{cursor}: {}", polled.body);
    let detail = |body: &Value| body["detail"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
    let mut streamed = Vec::new();
    for (query, headers) in [
        ("filter=DB/*", vec![("last-event-id", cursor)]),
        (&*format!("filter=DB/*&last_event_id={cursor}"), Vec::new()),
    ] {
        let headers: Vec<_> = [(METADATA, token), ("accept", "text/event-stream")].into_iter().chain(headers).collect();
        let refused = broker.get(&format!("/events?{query}"), &headers).await;
        assert_eq!(refused.status(), 400, "{cursor}");
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        streamed.push(detail(&serde_json::from_slice(&body).unwrap()));
    }
    let mut ws = broker.ws(token).await;
    ws.send(json!({ "id": 1, "sub": { "name": "s", "filter": "DB/*", "cursor": cursor } })).await;
    let frame = ws.next().await;
    assert_eq!(frame["error"]["code"], "invalid", "{frame}");
    let [header, url] = <[String; 2]>::try_from(streamed).unwrap();
    [detail(&polled.body), header, url, detail(&frame["error"])]
}

#[tokio::test]
async fn a_forged_or_truncated_cursor_is_refused_for_what_it_is() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 0..3).await;
    let cursor = broker.poll(&alice, "filter=DB/*&from=earliest&limit=1").await.cursor;
    let mut forged = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
    // The position's last byte, before the signature.
    let at = forged.len() - 17;
    forged[at] ^= 2;
    let forged = URL_SAFE_NO_PAD.encode(forged);
    let truncated = &cursor[..cursor.len() - 4];
    for (cursor, says) in [(forged.as_str(), "signature is not valid"), (truncated, "signature is not valid")] {
        for detail in refusals(&broker, &alice, cursor).await {
            assert!(detail.contains(says), "{detail}");
        }
    }
    for detail in refusals(&broker, &alice, "nonsense").await {
        assert!(detail.contains("not a cursor"), "{detail}");
    }
    // As brokers wrote them before they signed.
    for detail in refusals(&broker, &alice, "AQ").await {
        assert!(detail.contains("not signed"), "{detail}");
    }
    let there = lab.broker().await;
    assert_eq!(there.poll(&alice, &format!("filter=DB/*&cursor={cursor}")).await.ids(), ["1", "2"], "at any node");
}
