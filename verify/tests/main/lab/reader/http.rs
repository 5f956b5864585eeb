//! By HTTP: a stream of server-sent events, or one question after the other.

use std::time::Duration;

use bytes::Bytes;
use client::{Event, EventTold, Gap};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use principal::METADATA;
use serde_json::Value;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Following, Notes};

const PAUSE: Duration = Duration::from_millis(20);

/// A connection that came to its end, one way or another.
struct Over;

pub(super) async fn stream(notes: &Notes, following: &Following) {
    loop {
        _ = streamed(notes, following).await;
        sleep(PAUSE).await;
    }
}

pub(super) async fn poll(notes: &Notes, following: &Following) {
    loop {
        if polled(notes, following).await.is_err() {
            sleep(PAUSE).await;
        }
    }
}

async fn streamed(notes: &Notes, following: &Following) -> Result<(), Over> {
    let path = format!("/events?filter={}/*", following.queue);
    let mut headers = vec![("accept", "text/event-stream".to_owned())];
    let path = match notes.cursor() {
        Some(cursor) => {
            headers.push(("last-event-id", cursor));
            path
        }
        None => format!("{path}&from=earliest"),
    };
    let mut body = ask(notes, following, &path, &headers).await?.into_body();
    let mut text = Vec::new();
    loop {
        let frame = timeout(following.silence, body.frame()).await.map_err(|_| Over)?.ok_or(Over)?.map_err(|_| Over)?;
        let Ok(bytes) = frame.into_data() else { continue };
        text.extend(bytes);
        while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = text.drain(..end + 2).collect();
            told(notes, std::str::from_utf8(&block).expect("UTF-8"));
        }
    }
}

/// A block of a stream.
fn told(notes: &Notes, block: &str) {
    let of = |field: &str| block.lines().find_map(|line| line.strip_prefix(field));
    let (Some(event), Some(data)) = (of("event: "), of("data: ")) else { return };
    match event {
        "event" => {
            let told: EventTold = serde_json::from_str(data).expect("an event");
            notes.event(Some(&told.prev), &told.cursor, &told.event);
        }
        "gap" => notes.gap(&serde_json::from_str(data).expect("a gap")),
        "caught_up" => notes.caught_up(of("id: ").expect("a cursor")),
        _ => notes.idle(of("id: ").expect("a cursor")),
    }
}

async fn polled(notes: &Notes, following: &Following) -> Result<(), Over> {
    let from = notes.cursor().map_or_else(|| "from=earliest".to_owned(), |cursor| format!("cursor={cursor}"));
    let wait = following.silence.as_millis() / 3;
    let path = format!("/events?filter={}/*&wait={wait}ms&limit=16&{from}", following.queue);
    let answer = ask(notes, following, &path, &[("accept", "application/json".to_owned())]).await?;
    let cursor =
        answer.headers().get("turnpike-cursor").and_then(|cursor| cursor.to_str().ok()).ok_or(Over)?.to_owned();
    let body =
        timeout(following.silence, answer.into_body().collect()).await.map_err(|_| Over)?.map_err(|_| Over)?.to_bytes();
    if !body.is_empty() {
        let mut told: Value = serde_json::from_slice(&body).map_err(|_| Over)?;
        if told["gap"].is_object() {
            let gap: Gap = serde_json::from_value(told["gap"].take()).expect("a gap");
            notes.gap(&gap);
        }
        for told in told["events"].as_array_mut().expect("events") {
            let event: Event = serde_json::from_value(told["event"].take()).expect("an event");
            notes.event(None, told["cursor"].as_str().expect("a cursor"), &event);
        }
    }
    notes.idle(&cursor);
    Ok(())
}

/// An answer that is one. Who is sent away comes back when it is told to.
async fn ask(
    notes: &Notes,
    following: &Following,
    path: &str,
    headers: &[(&str, String)],
) -> Result<Response<Incoming>, Over> {
    let asking = async {
        let stream = TcpStream::connect(following.at).await.map_err(|_| Over)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| Over)?;
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "broker").header(METADATA, following.caller.token());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| Over)?;
        sender.send_request(request).await.map_err(|_| Over)
    };
    let answer = timeout(following.silence, asking).await.map_err(|_| Over)??;
    if answer.status().is_success() {
        return Ok(answer);
    }
    notes.refused();
    let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
    sleep(Duration::from_secs(after.unwrap_or(1))).await;
    Err(Over)
}
