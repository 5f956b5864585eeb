//! C19: frames and cursors that are none, or were changed. Who sends them is told what is wrong, or closed with the code that
//! says why; whoever is honest beside them misses nothing.

use std::time::Duration;

use http::StatusCode;
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};
use testkit::wire::{CONTINUATION, FIN, PING, RSV1, TEXT, Wire, frame, head};
use verify::{Site as _, contract::Stage};

use super::equal;
use crate::lab::{Brokers, Fleet, Lab};

const PROTOCOL: u16 = 4500;
const TOO_LARGE: u16 = 4502;

/// What hostile clients do, each time another one.
const ATTEMPTS: usize = 60;

pub(super) async fn clients(lab: &Lab, stage: &Stage) -> anyhow::Result<()> {
    let witness = stage.witness(lab.node().await?);
    let fleet = Fleet::start(lab, Brokers::new(), 2, stage.seed).await?;
    let readers = equal::follow(stage, &fleet)?;
    equal::publish(&witness, stage, "first", 10).await?;
    let cursor = testkit::eventually("there is a cursor", super::SOON, async || readers[0].notes.cursor()).await;
    let publishing = equal::publish(&witness, stage, "second", 4 * stage.times(ATTEMPTS));
    let hostile = async {
        let mut rng = stage.rng("hostile");
        for number in 0..stage.times(ATTEMPTS) {
            attempt(&fleet, stage, number, &cursor, &mut rng).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(publishing, hostile)?;
    equal::finish(&witness, stage, &readers).await
}

async fn attempt(fleet: &Fleet, stage: &Stage, number: usize, cursor: &str, rng: &mut StdRng) -> anyhow::Result<()> {
    let caller = fleet.brokers.reader("mallory");
    let (queue, at) = (stage.queue()?, fleet.address(number));
    if number % 3 == 2 {
        let wrong = changed(cursor, rng);
        let query = format!("filter={queue}/*&cursor={wrong}&wait=10ms");
        let status = asked(at, &query, &caller.header()).await?;
        anyhow::ensure!(status == StatusCode::BAD_REQUEST, "{wrong} is answered {status}");
    }
    let mut wire = Wire::open(at, &caller.header()).await;
    if number.is_multiple_of(3) {
        let (what, bytes, code) = garbled(rng);
        wire.write(&bytes).await;
        let closed = tokio::time::timeout(super::SOON, wire.closed()).await?;
        anyhow::ensure!(closed == code, "{what} is closed with {closed}");
        return Ok(());
    }
    // What is wrong is said, and the connection goes on.
    for _ in 0..8 {
        let (text, code) = nonsense(&queue, cursor, rng);
        wire.write(&frame(FIN | TEXT, text.as_bytes())).await;
        let answer = answered(&mut wire).await?;
        anyhow::ensure!(answer["error"]["code"] == code, "{text} is answered {answer}");
    }
    wire.say(&json!({ "id": 7, "sub": { "name": "s", "filter": format!("{queue}/*"), "cursor": cursor } })).await;
    let answer = answered(&mut wire).await?;
    anyhow::ensure!(answer["ok"]["cursor"] == cursor, "it may be honest yet: {answer}");
    Ok(())
}

async fn answered(wire: &mut Wire) -> anyhow::Result<Value> {
    Ok(tokio::time::timeout(super::SOON, wire.next()).await??)
}

/// What they are, the bytes, and the code that they are closed with.
type Garbled = (&'static str, Vec<u8>, u16);

/// Bytes that are no frames of a client.
fn garbled(rng: &mut StdRng) -> Garbled {
    let text = br#"{"id":1,"sub":{"name":"s","filter":"DB/*"}}"#;
    let ways: [fn(&mut StdRng, &[u8]) -> Garbled; 8] = [
        |_, text| ("what isn't masked", [head(FIN | TEXT, 0, text.len() as u64), text.to_vec()].concat(), PROTOCOL),
        // Some bytes that a window would make gigabytes of, had compression been agreed on.
        |rng, _| ("a compressed frame", frame(FIN | RSV1 | TEXT, &noise(rng, 1..100)), PROTOCOL),
        |rng, text| ("a reserved bit", frame(FIN | [0x10, 0x20, 0x30][rng.random_range(0..3)] | TEXT, text), PROTOCOL),
        |rng, text| ("an opcode that is none", frame(FIN | rng.random_range(0x3..0x8), text), PROTOCOL),
        |_, text| ("a continuation of nothing", frame(FIN | CONTINUATION, text), PROTOCOL),
        |rng, _| ("a ping that is too long", frame(FIN | PING, &noise(rng, 126..500)), PROTOCOL),
        |rng, _| {
            let mut bytes = noise(rng, 1..100);
            bytes.push(0xff);
            ("no UTF-8", frame(FIN | TEXT, &bytes), PROTOCOL)
        },
        |rng, _| {
            let announced = rng.random_range((1 << 20) + 1..1_u64 << 62);
            let bytes = [head(FIN | TEXT, 0x80, announced), noise(rng, 4..100)].concat();
            ("a frame that is announced as too large", bytes, TOO_LARGE)
        },
    ];
    ways.choose(rng).expect("some")(rng, text)
}

/// A frame that is one, and what is wrong with it.
fn nonsense(queue: &events::Name, cursor: &str, rng: &mut StdRng) -> (String, &'static str) {
    let sub =
        |cursor: &str| json!({ "id": 1, "sub": { "name": "s", "filter": format!("{queue}/*"), "cursor": cursor } });
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let ways = [
        (sub(&changed(cursor, rng)).to_string(), "invalid"),
        (sub(&"A".repeat(rng.random_range(1..20_000))).to_string(), "invalid"),
        (sub("\u{0}../../etc/passwd").to_string(), "invalid"),
        (deep(rng.random_range(200..5_000)), "invalid"),
        (r#"{"id":1,"fly":{}}"#.to_owned(), "invalid"),
        (format!(r#"{{"id":1,"ack":{{"sub":"nobody","cursor":"{cursor}"}}}}"#), "not-found"),
        (json!({ "id": 1, "pub": { "queue": queue, "event": "CREATE" } }).to_string(), "forbidden"),
        (json!({ "id": 1, "join": { "room": "chat/lobby" } }).to_string(), "forbidden"),
    ];
    ways.choose(rng).expect("some").clone()
}

/// A cursor of which one character is another one.
fn changed(cursor: &str, rng: &mut StdRng) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = cursor.as_bytes().to_vec();
    // The last one's low bits may be none of a byte's.
    let at = rng.random_range(0..bytes.len() - 1);
    let other: Vec<u8> = ALPHABET.iter().copied().filter(|byte| *byte != bytes[at]).collect();
    bytes[at] = *other.choose(rng).expect("some");
    String::from_utf8(bytes).expect("ASCII")
}

fn noise(rng: &mut StdRng, length: std::ops::Range<usize>) -> Vec<u8> {
    let length = rng.random_range(length);
    (0..length).map(|_| rng.random()).collect()
}

/// The status of a poll.
async fn asked(at: std::net::SocketAddr, query: &str, header: &str) -> anyhow::Result<StatusCode> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(at).await?;
    let request = format!("GET /events?{query} HTTP/1.1\r\nhost: broker\r\n{header}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await??;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    Ok(StatusCode::from_bytes(status.as_bytes())?)
}
