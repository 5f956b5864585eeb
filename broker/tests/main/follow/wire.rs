//! Bytes that are no frames of a client, on a connection that was a good one: it is closed with the code that says why, at
//! once, and nobody else notices.

use principal::METADATA;
use serde_json::json;
use testkit::wire::{CONTINUATION, FIN, PING, RSV1, TEXT, Wire, frame, head};

use super::lab::{Lab, Running, Ws, id};

/// Welcomed, as any other.
async fn open(broker: &Running, token: &str) -> Wire {
    Wire::open(broker.address, &format!("{METADATA}: {token}\r\n")).await
}

/// Somebody on the same node whom all of this must not concern.
async fn neighbour(broker: &Running, token: &str) -> Ws {
    let mut ws = broker.ws(token).await;
    ws.subscribe("s", "DB/*", "latest", 256).await;
    ws
}

#[tokio::test]
async fn what_breaks_the_framing_is_closed_for_good() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut neighbour = neighbour(&broker, &alice).await;
    let sub = br#"{"id":1,"sub":{"name":"s","filter":"DB/*"}}"#;
    let mut unmasked = head(FIN | TEXT, 0, sub.len() as u64);
    unmasked.extend(sub);
    // Four bytes that a window would make gigabytes of, had compression been agreed on.
    let bomb = frame(FIN | RSV1 | TEXT, &[0xed, 0xc1, 0x01, 0x01]);
    for (number, (what, bytes)) in [
        ("unmasked", unmasked),
        ("a compressed message", bomb),
        ("a reserved bit", frame(FIN | 0x10 | TEXT, b"{}")),
        ("an opcode that is none", frame(FIN | 0x3, b"{}")),
        ("a continuation of nothing", frame(FIN | CONTINUATION, b"{}")),
        ("a ping in parts", frame(PING, b"")),
        ("a ping that is too long", frame(FIN | PING, &[0; 126])),
        ("a message within a message", [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat()),
        ("no UTF-8", frame(FIN | TEXT, &[b'"', 0xff, 0xfe, b'"'])),
    ]
    .into_iter()
    .enumerate()
    {
        let mut wire = open(&broker, &alice).await;
        wire.write(&bytes).await;
        assert_eq!(wire.closed().await, 4500, "{what}");
        lab.publish("DB/CREATE", [u32::try_from(number).unwrap()]).await;
        assert_eq!(id(&neighbour.event().await), number.to_string(), "after {what}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_closed_before_it_is_taken_in() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut neighbour = neighbour(&broker, &alice).await;
    // Only announced: nobody waits for these bytes, nor makes room for them.
    for length in [(1 << 20) + 1, 1 << 32, (1 << 63) - 1] {
        let mut wire = open(&broker, &alice).await;
        wire.write(&head(FIN | TEXT, 0x80, length)).await;
        wire.write(&[1, 2, 3, 4, 5]).await;
        assert_eq!(wire.closed().await, 4502, "{length}");
    }
    // Each part is small, the message isn't.
    let mut wire = open(&broker, &alice).await;
    let part = vec![b' '; 100_000];
    for number in 0..11 {
        wire.write(&frame(if number == 0 { TEXT } else { CONTINUATION }, &part)).await;
    }
    assert_eq!(wire.closed().await, 4502);
    lab.publish("DB/CREATE", 0..1).await;
    assert_eq!(id(&neighbour.event().await), "0");
}

#[tokio::test]
async fn a_flood_of_nonsense_is_answered_and_holds_up_nobody() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut neighbour = neighbour(&broker, &alice).await;
    let mut ws = broker.ws(&alice).await;
    let deep = format!(
        r#"{{"id":1,"pub":{{"queue":"DB","event":"CREATE","data":{}1{}}}}}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    ws.say(&deep).await;
    assert_eq!(ws.next().await["error"]["code"], "invalid");
    for number in 0..500 {
        ws.say(&format!(r#"{{"id":{number},"ack":{{"sub":"nobody","cursor":"{}"}}}}"#, "A".repeat(1_000))).await;
    }
    lab.publish("DB/CREATE", 0..1).await;
    assert_eq!(id(&neighbour.event().await), "0");
    for number in 0..500 {
        let answer = ws.next().await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(number), &json!("not-found")));
    }
}

#[tokio::test]
async fn a_cursor_that_was_tampered_with_is_refused_and_the_connection_goes_on() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    lab.publish("DB/CREATE", 0..3).await;
    let mut ws = broker.ws(&alice).await;
    let cursor = ws.subscribe("s", "DB/*", "earliest", 256).await["cursor"].as_str().unwrap().to_owned();
    let cursors = [
        "A".repeat(20_000),
        format!("{cursor}="),
        cursor[..cursor.len() - 1].to_owned(),
        cursor.replace('A', "%"),
        "../../etc/passwd".to_owned(),
        "\u{0}".to_owned(),
    ];
    for told in ws.take("s", 3).await {
        assert!(told["cursor"].is_string());
    }
    for (number, wrong) in cursors.into_iter().enumerate() {
        ws.send(json!({ "id": number, "sub": { "name": "t", "filter": "DB/*", "cursor": wrong } })).await;
        let mut answer = ws.next().await;
        while answer["error"].is_null() {
            assert!(answer["caught_up"].is_object(), "{wrong:.40}: {answer}");
            answer = ws.next().await;
        }
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(number), &json!("invalid")), "{wrong:.40}");
    }
    lab.publish("DB/CREATE", 3..4).await;
    assert_eq!(id(&ws.event().await), "3");
}
