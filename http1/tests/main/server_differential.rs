//! The server's side against hyper's: on valid input both see the same requests and give the same answers.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::server::{Served, full, told, without_dates};

/// What was seen of a request.
fn seen(head: &http::request::Parts, body: &[u8]) -> String {
    let mut fields: Vec<_> = head.headers.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    fields.sort();
    format!("{} {} {:?} {fields:?} {body:?}", head.method, head.uri, head.version)
}

async fn ours(pieces: &[&[u8]]) -> String {
    let mut served = Served::new(|request| async {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Response::new(full(seen(&head, &body)))
    });
    for piece in pieces {
        served.client.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    served.rest().await
}

async fn hypers(input: &[u8]) -> String {
    let (mut client, server) = duplex(1 << 20);
    let service = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(seen(&head, &body)))))
    });
    let serving =
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service));
    client.write_all(input).await.unwrap();
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).await.unwrap();
    serving.await.unwrap().unwrap();
    without_dates(&answers)
}

/// Answers without what is a matter of taste: the order of their fields, and whether HTTP/1.1 says that it goes on.
fn plain(answers: &str) -> String {
    answers.replace("connection: close\r\n", "").replace("connection: keep-alive\r\n", "")
}

fn request() -> impl Strategy<Value = String> {
    let fields = prop::collection::vec(("x-[a-zA-Z0-9]{1,8}", "[!-~]([ -~]{0,30}[!-~])?"), 0..6);
    let body = prop_oneof![
        Just(None),
        prop::collection::vec("[a-z]{1,30}", 1..4).prop_map(|parts| Some((parts, false))),
        prop::collection::vec("[a-z]{1,30}", 0..4).prop_map(|parts| Some((parts, true))),
    ];
    ("(GET|POST|PUT|DELETE|PATCH|OPTIONS|PURGE)", "/[a-zA-Z0-9/._~-]{0,20}(\\?[a-z0-9=&%]{0,10})?", fields, body)
        .prop_map(|(method, target, fields, body)| {
            let mut text = format!("{method} {target} HTTP/1.1\r\nHost: a.test\r\n");
            for (name, value) in fields {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            match body {
                None => text.push_str("\r\n"),
                Some((parts, false)) => {
                    let body = parts.concat();
                    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
                }
                Some((parts, true)) => {
                    text.push_str("Transfer-Encoding: chunked\r\n\r\n");
                    for part in parts {
                        text.push_str(&format!("{:x}\r\n{part}\r\n", part.len()));
                    }
                    text.push_str("0\r\n\r\n");
                }
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_same_requests_are_seen(requests in prop::collection::vec(request(), 0..4), cuts in prop::collection::vec(0usize..800, 0..5)) {
        let input = format!("{}GET /last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n", requests.concat());
        let input = input.as_bytes();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(input.len())).chain([0, input.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (ours, hypers) = runtime.block_on(async { (ours(&pieces).await, hypers(input).await) });
        prop_assert_eq!(plain(&ours), plain(&hypers));
    }
}

/// What comes of these bytes and the end of what the client sends, in pieces.
async fn outcome(pieces: &[&[u8]]) -> String {
    let mut served = Served::new(told);
    for piece in pieces {
        // Whoever is refused needn't be read to the end.
        _ = served.client.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    _ = served.client.shutdown().await;
    served.rest().await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_come_to_the_same_however_they_are_cut(
        requests in prop::collection::vec(request(), 0..3),
        faults in prop::collection::vec((0usize..400, prop_oneof![any::<u8>(), prop::sample::select(b"\r\n :;0,\t".to_vec())]), 0..4),
        cuts in prop::collection::vec(0usize..800, 0..5),
    ) {
        let mut input = requests.concat().into_bytes();
        for (at, byte) in faults {
            match input.get_mut(at) {
                Some(place) => *place = byte,
                None => input.push(byte),
            }
        }
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(input.len())).chain([0, input.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (whole, cut) = runtime.block_on(async { (outcome(&[&input]).await, outcome(&pieces).await) });
        prop_assert_eq!(whole, cut);
    }
}
