//! Valid answers, however they are written and cut, are read as hyper reads them; what is ambiguous is refused.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt as _, Empty};
use http1::client::{Connection, Error};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

/// An answer as its bytes, and how they come.
#[derive(Clone, Debug)]
struct Script {
    head: String,
    body: Vec<u8>,
    cuts: Vec<usize>,
}

/// A message as it was read.
#[derive(Debug, PartialEq)]
struct Message {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

#[derive(Clone, Debug)]
struct Chunk {
    data: Vec<u8>,
    extension: &'static str,
    is_upper: bool,
    zeros: usize,
}

#[derive(Clone, Debug)]
enum Framing {
    Length(Vec<u8>),
    Chunked(Vec<Chunk>, Vec<(String, String)>),
    UntilClose(Vec<u8>),
}

fn field() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        prop::sample::select(vec!["Server", "ETAG", "cache-control", "Set-Cookie", "set-cookie", "Vary", "Link"])
            .prop_map(str::to_owned),
        "[Xx]-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}",
    ];
    (name, "[!-~]([ -~\u{e9}]{0,20}[!-~])?|")
}

fn line() -> impl Strategy<Value = (String, String, String, String)> {
    (field(), "[ \t]{0,2}", "[ \t]{0,2}").prop_map(|((name, value), before, after)| (name, before, value, after))
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        prop::collection::vec(prop::sample::select(b"\r\n0;HTTP/1.1 ".to_vec()), 0..60),
    ]
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let extension = prop::sample::select(vec!["", ";a", ";a=b", ";a=\"b c\"", ";a;b=c"]);
    (bytes(), extension, any::<bool>(), 0_usize..4).prop_map(|(mut data, extension, is_upper, zeros)| {
        data.push(b'.');
        Chunk { data, extension, is_upper, zeros }
    })
}

fn framing() -> impl Strategy<Value = Framing> {
    let trailer = "[Xx]-[a-z]{1,6}".prop_flat_map(|name| (Just(name), "[!-~]{0,8}"));
    prop_oneof![
        bytes().prop_map(Framing::Length),
        (prop::collection::vec(chunk(), 0..5), prop::collection::vec(trailer, 0..3))
            .prop_map(|(chunks, trailers)| Framing::Chunked(chunks, trailers)),
        bytes().prop_map(Framing::UntilClose),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let status = prop::sample::select(vec![200_u16, 201, 206, 301, 400, 404, 418, 499, 503, 599, 999]);
    let reason = prop::sample::select(vec![" OK", " Not Found", " ", " \u{e9}", " a  b\tc"]);
    let interim = prop::sample::select(vec!["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 E\r\nLink: x\r\n\r\n"]);
    let chunked = prop::sample::select(vec![
        "Transfer-Encoding: chunked",
        "transfer-encoding:Chunked",
        "TRANSFER-ENCODING: \tchunked ",
    ]);
    (
        interim,
        status,
        reason,
        prop::collection::vec(line(), 0..8),
        framing(),
        chunked,
        0_usize..8,
        prop::collection::vec(0_usize..400, 0..12),
    )
        .prop_map(|(interim, status, reason, lines, framing, chunked, place, cuts)| {
            let mut lines: Vec<_> = lines
                .into_iter()
                .map(|(name, before, value, after)| format!("{name}:{before}{value}{after}"))
                .collect();
            let place = place.min(lines.len());
            let body = match framing {
                Framing::Length(body) => {
                    lines.insert(place, format!("Content-Length: {}", body.len()));
                    body
                }
                Framing::Chunked(chunks, trailers) => {
                    lines.insert(place, chunked.to_owned());
                    encoded(&chunks, &trailers)
                }
                Framing::UntilClose(body) => body,
            };
            let lines: String = lines.into_iter().map(|line| line + "\r\n").collect();
            Script { head: format!("{interim}HTTP/1.1 {status}{reason}\r\n{lines}\r\n"), body, cuts }
        })
}

fn encoded(chunks: &[Chunk], trailers: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for Chunk { data, extension, is_upper, zeros } in chunks {
        let size = if *is_upper { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
        out.extend_from_slice(format!("{}{size}{extension}\r\n", "0".repeat(*zeros)).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Says the script in its pieces, and closes.
async fn play(script: &Script, mut to: DuplexStream) {
    let bytes = [script.head.as_bytes(), &script.body].concat();
    let mut cuts: Vec<_> = script.cuts.iter().map(|cut| *cut.min(&bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    // The answer begins when the request is there.
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") && to.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {}
    for piece in cuts.windows(2) {
        // Whoever reads no further needs no more.
        if to.write_all(&bytes[piece[0]..piece[1]]).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

async fn message<B: Body<Data = Bytes>>(response: http::Response<B>) -> Result<Message, B::Error> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    let (status, version, headers) = (parts.status, parts.version, parts.headers);
    Ok(Message { status, version, headers, body: collected.to_bytes(), trailers })
}

fn request(method: &Method) -> Request<Empty<Bytes>> {
    Request::builder().method(method).uri("/").header("host", "a").body(Empty::new()).unwrap()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn by_ours(script: &Script, method: &Method) -> Result<Message, Error> {
    run(async {
        let (near, far) = duplex(64);
        let read = async {
            let response = Connection::<_, Empty<Bytes>>::new(near).send(&request(method), Empty::new()).await?;
            message(response).await
        };
        tokio::join!(play(script, far), read).1
    })
}

fn by_hyper(script: &Script, method: &Method) -> hyper::Result<Message> {
    run(async {
        let (near, far) = duplex(64);
        let read = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
            let answer = async {
                let response = sender.send_request(request(method)).await?;
                message(response).await
            };
            let (answer, _) = tokio::join!(answer, connection);
            answer
        };
        tokio::join!(play(script, far), read).1
    })
}

/// Where the lines of a head end.
fn line_ends(head: &str) -> Vec<usize> {
    head.match_indices("\r\n").map(|(at, _)| at).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_valid_answer_is_read_as_hyper_reads_it(script in script(), is_head: bool) {
        let method = if is_head { Method::HEAD } else { Method::GET };
        let ours = by_ours(&script, &method);
        let theirs = by_hyper(&script, &method);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            (ours, theirs) => prop_assert!(false, "{ours:?} and {theirs:?}"),
        }
    }

    #[test]
    fn a_line_that_lost_its_cr_makes_it_none(script in script(), which: prop::sample::Index) {
        let ends = line_ends(&script.head);
        let mut script = script;
        script.head.remove(ends[which.index(ends.len())]);
        prop_assert!(matches!(by_ours(&script, &Method::GET), Err(Error::Invalid(_))));
    }

    #[test]
    fn a_folded_line_makes_it_none(script in script(), which: prop::sample::Index, space in "[ \t]") {
        let ends = line_ends(&script.head);
        let mut script = script;
        let head = &script.head;
        let begins: Vec<_> = ends.iter().map(|at| at + 2).filter(|at| !head[..*at].ends_with("\r\n\r\n")).collect();
        script.head.insert_str(begins[which.index(begins.len())], &space);
        // A space before the last empty line leaves the head without an end, too.
        let read = by_ours(&script, &Method::GET);
        prop_assert!(matches!(read, Err(Error::Invalid(_) | Error::Closed)), "{:?}", script.head);
    }

    #[test]
    fn a_second_word_on_where_it_ends_makes_it_none(
        script in script(),
        word in prop::sample::select(vec!["Content-Length: 3", "content-length:0", "Transfer-Encoding: chunked", "transfer-encoding: identity"]),
    ) {
        let framed = script.head.to_ascii_lowercase();
        prop_assume!(framed.contains("\r\ncontent-length:") || framed.contains("\r\ntransfer-encoding:"));
        let mut script = script;
        script.head.truncate(script.head.len() - 2);
        script.head.push_str(&format!("{word}\r\n\r\n"));
        prop_assert!(matches!(by_ours(&script, &Method::GET), Err(Error::Invalid(_))), "{:?}", script.head);
    }
}
