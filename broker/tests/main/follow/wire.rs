//! Bytes that are no frames of a client, on a connection that was a good one: it is closed with the code that says why, at
//! once, and nobody else notices.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::lab::{Lab, Running, Ws, id};
use crate::site::SOON;

const TEXT: u8 = 0x1;
const CONTINUATION: u8 = 0x0;
const PING: u8 = 0x9;
const FIN: u8 = 0x80;
/// What a compressed message is marked by, where both sides have agreed on that.
const RSV1: u8 = 0x40;

/// A connection on which bytes are written as they are.
struct Wire(TcpStream);

impl Wire {
    /// Welcomed, as any other.
    async fn open(broker: &Running, token: &str) -> Self {
        let mut stream = TcpStream::connect(broker.address).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: broker\r\nturnpike-principal: {token}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: turnpike.v1\r\n\
             sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(SOON, stream.read_u8()).await.expect("an answer").unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(!head.contains("sec-websocket-extensions"), "nothing is compressed: {head}");
        let mut wire = Self(stream);
        wire.write(&frame(FIN | TEXT, br#"{"hello":{"v":1}}"#)).await;
        let (first, welcome) = wire.read().await;
        assert_eq!((first, welcome.starts_with(br#"{"welcome":"#)), (FIN | TEXT, true));
        wire
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame: its first byte and what it carries. A server's are not masked.
    async fn read(&mut self) -> (u8, Vec<u8>) {
        let reading = async {
            let (first, length) = (self.0.read_u8().await?, self.0.read_u8().await?);
            let length = match length {
                126 => usize::from(self.0.read_u16().await?),
                127 => usize::try_from(self.0.read_u64().await?).unwrap(),
                length => usize::from(length),
            };
            let mut bytes = vec![0; length];
            self.0.read_exact(&mut bytes).await?;
            Ok::<_, std::io::Error>((first, bytes))
        };
        timeout(SOON, reading).await.expect("a frame").unwrap()
    }

    /// The code that it is closed with.
    async fn closed(&mut self) -> u16 {
        loop {
            let (first, bytes) = self.read().await;
            if first == FIN | 0x8 {
                return u16::from_be_bytes([bytes[0], bytes[1]]);
            }
        }
    }
}

/// A masked frame, as a client has to send it.
fn frame(first: u8, bytes: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = head(first, 0x80, bytes.len() as u64);
    frame.extend(mask);
    frame.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn head(first: u8, masked: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(masked | length as u8),
        126..=0xffff => {
            head.push(masked | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(masked | 127);
            head.extend(length.to_be_bytes());
        }
    }
    head
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
        let mut wire = Wire::open(&broker, &alice).await;
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
        let mut wire = Wire::open(&broker, &alice).await;
        wire.write(&head(FIN | TEXT, 0x80, length)).await;
        wire.write(&[1, 2, 3, 4, 5]).await;
        assert_eq!(wire.closed().await, 4502, "{length}");
    }
    // Each part is small, the message isn't.
    let mut wire = Wire::open(&broker, &alice).await;
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
