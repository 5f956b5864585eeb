//! C19: frames that no client library sends, in pieces and without end. The connection is closed with the code that says why, or
//! served; nothing else is harmed.

use std::time::Duration;

use principal::METADATA;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::lab::{Lab, Running, id};
use crate::site::SOON;

const TEXT: u8 = 0x81;
const CONTINUATION: u8 = 0x00;
const FINAL: u8 = 0x80;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x08;
const MASKED: u8 = 0x80;

/// A connection without a library.
struct Wire(TcpStream);

impl Wire {
    async fn open(broker: &Running, token: &str) -> Self {
        let mut wire = Self(TcpStream::connect(broker.address).await.unwrap());
        let head = format!(
            "GET /ws HTTP/1.1\r\nhost: broker\r\n{METADATA}: {token}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-extensions: permessage-deflate\r\nsec-websocket-protocol: turnpike.v1\r\n\r\n"
        );
        wire.0.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(SOON, wire.0.read_u8()).await.unwrap().unwrap());
        }
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        assert!(!answer.contains("sec-websocket-extensions"), "compression is not offered: {answer}");
        wire.frame(TEXT, br#"{"hello":{"v":1}}"#).await;
        let (_, welcome) = wire.next().await;
        assert!(serde_json::from_slice::<Value>(&welcome).unwrap()["welcome"].is_object());
        wire
    }

    /// A frame as clients send it: masked, here with zeros.
    async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut frame = head(first, payload.len(), MASKED);
        frame.extend([0; 4]);
        frame.extend(payload);
        self.raw(&frame).await;
    }

    /// The other end may be gone already.
    async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    /// The next frame: its first byte and its payload.
    async fn next(&mut self) -> (u8, Vec<u8>) {
        let reading = async {
            let first = self.0.read_u8().await.unwrap();
            let length = match self.0.read_u8().await.unwrap() {
                126 => u64::from(self.0.read_u16().await.unwrap()),
                127 => self.0.read_u64().await.unwrap(),
                length => u64::from(length),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            (first, payload)
        };
        timeout(SOON, reading).await.expect("a frame")
    }

    /// The code it is closed with.
    async fn closed(&mut self) -> u16 {
        loop {
            let (first, payload) = self.next().await;
            if first & 0x0f == CLOSE {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }
}

fn head(first: u8, length: usize, mask: u8) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(mask | u8::try_from(length).unwrap()),
        126..65_536 => {
            head.push(mask | 126);
            head.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            head.push(mask | 127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head
}

#[tokio::test]
async fn frames_that_break_the_protocol_close_their_connection_alone() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut honest = broker.ws(&alice).await;
    honest.subscribe("s", "DB/*", "latest", 256).await;

    // A bomb is small where nothing unpacks it: compressed frames are as wrong as other reserved bits.
    let compressed = 0x40 | TEXT;
    let half_of_a_letter = [b'"', 0xc3];
    let bad_utf8 = [b'"', 0xff, b'"'];
    for (why, frames, code) in [
        ("not masked", vec![[head(TEXT, 2, 0), b"{}".to_vec()].concat()], 4500),
        ("compressed", vec![masked(compressed, b"{}")], 4500),
        ("reserved bits", vec![masked(0x30 | TEXT, b"{}")], 4500),
        ("an opcode that there is not", vec![masked(0x83, b"{}")], 4500),
        ("bad UTF-8", vec![masked(TEXT, &bad_utf8)], 4500),
        ("UTF-8 cut off", vec![masked(TEXT, &half_of_a_letter)], 4500),
        ("a continuation of nothing", vec![masked(FINAL | CONTINUATION, b"{}")], 4500),
        ("a text within a text", vec![masked(0x01, b"{"), masked(TEXT, b"}")], 4500),
        ("a ping of 126 bytes", vec![masked(PING, &[b'x'; 126])], 4500),
        ("a ping in pieces", vec![masked(0x09, b"x")], 4500),
        ("binary", vec![masked(0x82, b"{}")], 4500),
        ("a frame of 2 MiB", vec![[head(TEXT, 2 << 20, MASKED), vec![0; 4]].concat()], 4502),
        ("a frame of 8 EiB", vec![[head(TEXT, usize::MAX >> 1, MASKED), vec![0; 4]].concat()], 4502),
        (
            "a text of many pieces, beyond 1 MiB",
            std::iter::once(masked(0x01, &[b'x'; 60_000]))
                .chain((0..20).map(|_| masked(CONTINUATION, &[b'x'; 60_000])))
                .collect(),
            4502,
        ),
    ] {
        let mut wire = Wire::open(&broker, &alice).await;
        for frame in frames {
            wire.raw(&frame).await;
        }
        assert_eq!(wire.closed().await, code, "{why}");
    }

    lab.publish("DB/CREATE", 0..1).await;
    assert_eq!(id(&honest.event().await), "0", "nobody else was harmed");
    drop(honest);
    testkit::eventually("nothing of them is left", SOON, || async { lab.bus.roster().here().is_empty().then_some(()) })
        .await;
}

#[tokio::test]
async fn pieces_without_end_hold_up_nobody_and_a_text_in_pieces_is_read() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut flood = Wire::open(&broker, &alice).await;
    flood.frame(0x01, b"{").await;
    let pieces = masked(CONTINUATION, b"").repeat(10_000);
    let mut honest = broker.ws(&alice).await;
    honest.subscribe("s", "DB/*", "latest", 256).await;
    for round in 0..5 {
        flood.raw(&pieces).await;
        lab.publish("DB/CREATE", round..round + 1).await;
        assert_eq!(id(&honest.event().await), round.to_string());
    }
    flood.frame(FINAL | CONTINUATION, br#""id":1,"unsub":{"sub":"none"}}"#).await;
    let (_, answer) = flood.next().await;
    assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap()["error"]["code"], "not-found");
}

#[tokio::test]
async fn a_ping_is_answered_however_many_come() {
    let lab = Lab::open().await;
    let (broker, alice) = (lab.broker().await, lab.alice());
    let mut wire = Wire::open(&broker, &alice).await;
    wire.raw(&masked(PING, b"x").repeat(5_000)).await;
    wire.frame(PING, b"last").await;
    let last = async {
        loop {
            let (first, payload) = wire.next().await;
            assert_eq!(first, 0x8a, "a pong");
            if payload == b"last" {
                return;
            }
        }
    };
    timeout(SOON + Duration::from_secs(10), last).await.expect("the last ping is answered");
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [head(first, payload.len(), MASKED), vec![0; 4], payload.to_vec()].concat()
}
