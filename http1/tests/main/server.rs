//! The server's side, as bytes.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use http1::{
    request::Limits,
    server::{BodyError, Fate, Phase, Refusal, RequestBody, Service, Verdict, serve},
    upgrade::OnUpgrade,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    task::JoinHandle,
};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Frames as they are, without a length.
fn frames(frames: Vec<Frame<Bytes>>) -> Body {
    StreamBody::new(stream::iter(frames.into_iter().map(Ok))).boxed_unsync()
}

fn data(text: &'static str) -> Frame<Bytes> {
    Frame::data(Bytes::from_static(text.as_bytes()))
}

/// What is asked of a connection, and what it told.
pub struct Tested {
    answer: Box<dyn Fn(Request<RequestBody>) -> Answering + Send + Sync>,
    verdict: Mutex<(Option<Verdict>, Option<Waker>)>,
    draining: AtomicBool,
    phases: Mutex<Vec<Phase>>,
}

impl Tested {
    fn judge(&self, verdict: Verdict) {
        let mut current = self.verdict.lock();
        current.0 = Some(verdict);
        self.draining.store(verdict == Verdict::Drain, SeqCst);
        current.1.take().expect("it waits").wake();
    }
}

impl Service for Tested {
    type Body = Body;
    type Future = Answering;

    fn call(&self, request: Request<RequestBody>) -> Answering {
        (self.answer)(request)
    }

    fn refuse(&self, refusal: Refusal) -> Answering {
        let mut response = Response::new(full(refusal.to_string()));
        *response.status_mut() = match refusal {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::TooSlow => StatusCode::REQUEST_TIMEOUT,
        };
        Box::pin(async { response })
    }

    fn enter(&self, phase: Phase) {
        self.phases.lock().push(phase);
    }

    fn verdict(&self, context: &mut Context<'_>) -> Verdict {
        let mut verdict = self.verdict.lock();
        verdict.1 = Some(context.waker().clone());
        verdict.0.unwrap_or(Verdict::Stay)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }
}

/// A connection that is served.
pub struct Served {
    pub client: DuplexStream,
    pub service: Arc<Tested>,
    pub end: JoinHandle<std::io::Result<()>>,
}

impl Served {
    pub fn new<F>(answer: impl Fn(Request<RequestBody>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let (client, server) = duplex(64 << 10);
        let service = Arc::new(Tested {
            answer: Box::new(move |request| Box::pin(answer(request))),
            verdict: Mutex::default(),
            draining: AtomicBool::new(false),
            phases: Mutex::default(),
        });
        let served = Arc::clone(&service);
        let end = tokio::spawn(async move { serve(server, &*served, &Limits::default()).await });
        Self { client, service, end }
    }

    async fn write(&mut self, bytes: &str) {
        self.client.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// What comes until the connection is closed, without dates.
    pub async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), self.client.read_to_end(&mut bytes)).await.unwrap().unwrap();
        without_dates(&bytes)
    }

    /// What comes up to this text.
    async fn until(&mut self, text: &str) -> String {
        let mut bytes = Vec::new();
        while !without_dates(&bytes).ends_with(text) {
            let byte = tokio::time::timeout(Duration::from_secs(20), self.client.read_u8()).await;
            bytes.push(byte.unwrap_or_else(|_| panic!("so far: {}", String::from_utf8_lossy(&bytes))).unwrap());
        }
        without_dates(&bytes)
    }
}

pub fn without_dates(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

/// Method, path and body of the request.
pub async fn told(request: Request<RequestBody>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body,
        Err(error) => return Response::new(full(format!("{} {} failed: {error}", head.method, head.uri))),
    };
    let trailers = body.trailers().map_or(0, HeaderMap::len);
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Response::new(full(format!("{} {} {text:?} {trailers}", head.method, head.uri)))
}

/// What the last answer on a connection says.
const CLOSE: &str = "connection: close\r\n";

async fn exchange(input: &str) -> String {
    let mut served = Served::new(told);
    served.write(input).await;
    served.rest().await
}

#[tokio::test]
async fn requests_are_answered_in_their_order_until_one_is_the_last() {
    let answers = exchange("GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\ncontent-length: 2\r\n\r\nhiGET /3 HTTP/1.1\r\nconnection: close\r\n\r\nGET /4 HTTP/1.1\r\n\r\n").await;
    assert_eq!(
        answers,
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nGET /1 \"\" 0\
         HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\nPOST /2 \"hi\" 0\
         HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\nGET /3 \"\" 0"
    );
}

#[tokio::test]
async fn an_answer_says_when_it_was_made_unless_it_knows_better() {
    let mut served = Served::new(|request| async move {
        let mut response = Response::new(full(""));
        if request.uri().path() == "/own" {
            response.headers_mut().insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        }
        response
    });
    served.write("GET / HTTP/1.1\r\n\r\nGET /own HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    let mut text = String::new();
    served.client.read_to_string(&mut text).await.unwrap();
    let dates: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("date: ")).collect();
    assert_eq!((dates.len(), dates[0].len(), dates[1]), (2, 29, "Sun, 06 Nov 1994 08:49:37 GMT"));
}

#[tokio::test]
async fn a_chunked_body_arrives_with_its_trailers_however_it_drips() {
    let input = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\nx-sum: 3\r\n\r\n";
    let whole = exchange(input).await;
    assert!(whole.ends_with("\r\n\r\nPOST / \"hi!\" 1"), "{whole}");
    let mut served = Served::new(told);
    for byte in input.as_bytes() {
        served.client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(served.rest().await, whole);
}

#[tokio::test]
async fn a_body_without_a_length_goes_out_in_chunks_and_trailers_to_whoever_takes_them() {
    let serve = || {
        Served::new(|_| async {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            Response::new(frames(vec![data("abc"), data(""), data("0123456789abcdef"), Frame::trailers(trailers)]))
        })
    };
    let chunks = "3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n";
    let mut served = serve();
    served.write("GET / HTTP/1.1\r\nTE: trailers\r\nconnection: close\r\n\r\n").await;
    let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{CLOSE}\r\n");
    assert_eq!(served.rest().await, format!("{head}{chunks}grpc-status: 0\r\n\r\n"));
    let mut served = serve();
    served.write("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(served.rest().await, format!("{head}{chunks}\r\n"));
    let mut served = serve();
    served.write("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
    assert_eq!(
        served.rest().await,
        format!("HTTP/1.0 200 OK\r\n{CLOSE}\r\nabc0123456789abcdef"),
        "HTTP/1.0 knows no chunks"
    );
}

#[tokio::test]
async fn http_1_0_lasts_only_where_it_is_asked_to() {
    assert_eq!(
        exchange("GET /1 HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n").await,
        "HTTP/1.0 200 OK\r\ncontent-length: 11\r\nconnection: keep-alive\r\n\r\nGET /1 \"\" 0\
         HTTP/1.0 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\nGET /2 \"\" 0"
    );
}

#[tokio::test]
async fn answers_that_have_no_body_have_none() {
    let mut served = Served::new(|request| async move {
        let mut response = Response::new(full("body"));
        let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap();
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    });
    served.write("HEAD /200 HTTP/1.1\r\n\r\nGET /204 HTTP/1.1\r\n\r\nGET /304 HTTP/1.1\r\n\r\n").await;
    served.write("HEAD /404 HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(
        served.rest().await,
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\
         HTTP/1.1 204 No Content\r\n\r\n\
         HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n\
         HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nconnection: close\r\n\r\n"
    );
}

#[tokio::test]
async fn a_client_is_told_to_go_on_only_when_its_body_is_wanted() {
    let head = "POST / HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    let mut served = Served::new(told);
    served.write(head).await;
    assert_eq!(served.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    served.write("hi").await;
    assert_eq!(served.until("\" 0").await, "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nPOST / \"hi\" 0");
    served.write(&format!("{head}hi")).await;
    assert_eq!(
        served.until("\" 0").await,
        "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nPOST / \"hi\" 0",
        "it was there"
    );

    let mut served = Served::new(|_| async { Response::new(full("no")) });
    served.write(head).await;
    assert_eq!(served.rest().await, format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{CLOSE}\r\nno"));
}

#[tokio::test]
async fn what_is_left_of_a_small_body_is_passed_over() {
    let mut served = Served::new(|_| async { Response::new(full("no")) });
    served.write("POST / HTTP/1.1\r\ncontent-length: 100\r\n\r\nhi").await;
    assert_eq!(served.until("no").await, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
    served.write(&"x".repeat(98)).await;
    served.write("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(served.rest().await, format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{CLOSE}\r\nno"));
}

#[tokio::test]
async fn a_body_of_many_small_chunks_that_nobody_wants_is_passed_over() {
    let mut served = Served::new(|_| async { Response::new(full("no")) });
    let chunks = "1\r\nx\r\n".repeat(500);
    served.write(&format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")).await;
    assert_eq!(served.until("no").await, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
    served.write("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(served.rest().await, format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{CLOSE}\r\nno"));
}

#[tokio::test(start_paused = true)]
async fn whoever_sends_a_large_body_that_nobody_wants_can_still_read_why() {
    let mut served = Served::new(|_| async { Response::new(full("no")) });
    served.write("POST / HTTP/1.1\r\ncontent-length: 10000000\r\n\r\nhi").await;
    assert_eq!(served.rest().await, format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{CLOSE}\r\nno"));
    served.write(&"x".repeat(1 << 20)).await;
    assert!(!served.end.is_finished(), "it is still listened to");
    served.end.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_the_connection_closed() {
    let answers = exchange("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nA : b\r\n\r\nGET /3 HTTP/1.1\r\n\r\n").await;
    let (first, second) = answers.split_at(answers.rfind("HTTP/1.1").unwrap());
    assert!(first.ends_with("GET /1 \"\" 0"));
    assert!(second.starts_with("HTTP/1.1 400 Bad Request\r\n") && second.contains(CLOSE), "{second}");
    for framing in ["content-length: 1\r\ncontent-length: 1", "content-length: 1\r\ntransfer-encoding: chunked"] {
        let answer = exchange(&format!("POST / HTTP/1.1\r\n{framing}\r\n\r\nx")).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_can_not_be_understood_fails_and_ends_the_connection() {
    let answer = exchange("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhiGET / HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains(CLOSE), "{answer}");
    assert!(
        answer
            .ends_with("POST / failed: the request body is not well formed: a chunk does not end where its size says")
    );
}

#[tokio::test]
async fn a_connection_becomes_another_protocols() {
    let mut served = Served::new(|mut request| async move {
        let promise: OnUpgrade = request.extensions_mut().remove().unwrap();
        tokio::spawn(async move {
            let mut upgraded = promise.await.unwrap();
            let mut read = [0; 5];
            upgraded.read_exact(&mut read).await.unwrap();
            upgraded.write_all(&read).await.unwrap();
        });
        let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        response
    });
    served.write("GET / HTTP/1.1\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\nhel").await;
    let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    assert_eq!(served.until("\r\n\r\n").await, head);
    served.write("lo").await;
    assert_eq!(served.rest().await, "hello");
}

#[tokio::test]
async fn an_upgrade_nobody_took_leaves_the_connection_as_it_is() {
    let mut served = Served::new(told);
    served.write("GET /1 HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nGET /2 HTTP/1.0\r\n\r\n").await;
    assert!(served.rest().await.contains("GET /2"));
}

/// Counts how many of it are left.
struct Present(Arc<AtomicUsize>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let present = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&present);
    let mut served = Served::new(move |request| {
        counted.fetch_add(1, SeqCst);
        let present = Present(Arc::clone(&counted));
        async move {
            let _present = present;
            if request.uri().path() == "/body" {
                _ = request.into_body().collect().await;
            }
            std::future::pending().await
        }
    });
    for head in ["GET / HTTP/1.1\r\n\r\n", "POST /body HTTP/1.1\r\ncontent-length: 9\r\n\r\nhi"] {
        served.write(head).await;
        testkit::eventually("it is asked", Duration::from_secs(10), || async {
            (present.load(SeqCst) == 1).then_some(())
        })
        .await;
        let (client, _) = duplex(1);
        drop(std::mem::replace(&mut served.client, client));
        assert!((&mut served.end).await.unwrap().is_err());
        assert_eq!(present.load(SeqCst), 0);
        let answer = Arc::clone(&present);
        served = Served::new(move |request| {
            answer.fetch_add(1, SeqCst);
            let present = Present(Arc::clone(&answer));
            async move {
                let _present = present;
                _ = request.into_body().collect().await;
                std::future::pending().await
            }
        });
    }
}

#[tokio::test]
async fn whoever_reads_a_body_in_another_task_is_told_that_the_client_is_gone() {
    let (sender, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let mut served = Served::new(move |request| {
        let sender = sender.clone();
        tokio::spawn(async move { sender.send(request.into_body().collect().await.err()) });
        std::future::pending()
    });
    served.write("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhi").await;
    waits_in(&served, Phase::Receiving).await;
    served.client.shutdown().await.unwrap();
    served.end.await.unwrap().unwrap_err();
    let end = tokio::time::timeout(Duration::from_secs(20), ends.recv()).await.expect("it is told");
    assert_eq!(end, Some(Some(BodyError::Closed)));
}

#[tokio::test]
async fn a_drain_lets_finish_what_has_begun() {
    let mut idle = Served::new(told);
    idle.write("GET /1 HTTP/1.1\r\n\r\n").await;
    idle.until("\" 0").await;
    testkit::eventually("it is idle", Duration::from_secs(10), || async {
        (idle.service.phases.lock().last() == Some(&Phase::Idle)).then_some(())
    })
    .await;
    tokio::task::yield_now().await;
    idle.service.judge(Verdict::Drain);
    assert_eq!(idle.rest().await, "");

    let mut begun = Served::new(told);
    begun.write("GET /1 HTT").await;
    testkit::eventually("it has begun", Duration::from_secs(10), || async {
        begun.service.verdict.lock().1.is_some().then_some(())
    })
    .await;
    begun.service.judge(Verdict::Drain);
    begun.write("P/1.1\r\n\r\n").await;
    assert_eq!(begun.rest().await, format!("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n{CLOSE}\r\nGET /1 \"\" 0"));
}

async fn waits_in(served: &Served, phase: Phase) {
    testkit::eventually("it waits for the client", Duration::from_secs(10), || async {
        // A connection begins by waiting for a head, without a word.
        let last = served.service.phases.lock().last().copied().unwrap_or(Phase::Head);
        (last == phase && served.service.verdict.lock().1.is_some()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_takes_too_long_is_told_so_where_there_is_something_to_tell() {
    let mut head = Served::new(told);
    head.write("GET / HTTP/1.1\r\n").await;
    waits_in(&head, Phase::Head).await;
    head.service.judge(Verdict::Late);
    assert!(head.rest().await.starts_with("HTTP/1.1 408 Request Timeout\r\n"));

    let mut body = Served::new(told);
    body.write("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nhi").await;
    waits_in(&body, Phase::Receiving).await;
    body.service.judge(Verdict::Late);
    assert!(body.rest().await.ends_with("POST / failed: the request body took too long to arrive"));

    let mut idle = Served::new(told);
    idle.write("GET / HTTP/1.1\r\n\r\n").await;
    idle.until("\" 0").await;
    waits_in(&idle, Phase::Idle).await;
    idle.service.judge(Verdict::Late);
    assert_eq!(idle.rest().await, "");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_waited_for_as_what_it_is() {
    let mut served = Served::new(|_| async { Response::new(full(vec![b'x'; 1 << 20])) });
    served.write("GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    testkit::eventually("it can't send more", Duration::from_secs(10), || async {
        (served.service.phases.lock().last() == Some(&Phase::Sending)).then_some(())
    })
    .await;
    let answer = served.rest().await;
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), 1 << 20);
}

#[tokio::test]
async fn an_answer_is_never_longer_or_shorter_than_it_said() {
    for body in ["short", "far too long"] {
        let mut served = Served::new(move |_| async move {
            let mut response = Response::new(frames(vec![data(body)]));
            response.headers_mut().insert("content-length", "8".parse().unwrap());
            response
        });
        served.write("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
        let answer = served.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n"), "{answer}");
        assert!(answer.split_once("\r\n\r\n").unwrap().1.len() < 8, "{answer}");
        served.end.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn a_body_is_read_no_faster_than_it_is_wanted() {
    let (gate, opened) = tokio::sync::oneshot::channel::<()>();
    let opened = Mutex::new(Some(opened));
    let mut served = Served::new(move |request| {
        let opened = opened.lock().take().unwrap();
        async move {
            let mut body = request.into_body();
            body.frame().await.unwrap().unwrap();
            opened.await.unwrap();
            let rest = body.collect().await.unwrap().to_bytes();
            Response::new(full(rest.len().to_string()))
        }
    });
    served.write("POST / HTTP/1.1\r\ncontent-length: 1000001\r\nconnection: close\r\n\r\nx").await;
    let mut sent = 0;
    let block = [b'x'; 10_000];
    // The pipe of 64 KiB, and no more than the server has room for.
    while sent < 100 {
        let write = tokio::time::timeout(Duration::from_millis(200), served.client.write_all(&block)).await;
        if write.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 20, "{sent} blocks were taken");
    drop(served);
    drop(gate);
}

#[tokio::test]
async fn a_body_can_be_read_in_another_task_and_after_the_answer_has_begun() {
    let mut served = Served::new(|request| async {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Frame<Bytes>>(1);
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                sender.send(frame).await.unwrap();
            }
        });
        let echo = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|frame| (Ok::<_, BoxError>(frame), receiver))
        });
        Response::new(StreamBody::new(Box::pin(echo)).boxed_unsync())
    });
    served.write("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n").await;
    served.until("\r\n\r\n").await;
    for word in ["one", "two", "six"] {
        served.write(&format!("3\r\n{word}\r\n")).await;
        assert_eq!(served.until(word).await.trim_start_matches("\r\n"), format!("3\r\n{word}"));
    }
    served.write("0\r\n\r\n").await;
    assert_eq!(served.rest().await, "\r\n0\r\n\r\n");
}

#[tokio::test]
async fn why_a_body_broke_off_is_known_to_whoever_gave_it_away() {
    let mut served = Served::new(|mut request| async move {
        let fate: Fate = request.extensions_mut().remove().unwrap();
        let mut body = request.into_body();
        while let Some(Ok(_)) = poll_fn(|context| http_body::Body::poll_frame(Pin::new(&mut body), context)).await {}
        Response::new(full(format!("{:?}", matches!(fate.error(), Some(BodyError::Malformed(_))))))
    });
    served.write("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await;
    assert!(served.rest().await.ends_with("true"));
}

#[tokio::test]
async fn a_large_answer_is_whole() {
    let text: String = (0..200_000).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
    let parts: Vec<_> = text.as_bytes().chunks(7001).map(|part| Frame::data(Bytes::copy_from_slice(part))).collect();
    let mut served = Served::new(move |_| {
        let parts = parts.iter().map(|part| Frame::data(part.data_ref().unwrap().clone())).collect();
        async { Response::new(frames(parts)) }
    });
    served.write("GET / HTTP/1.0\r\n\r\n").await;
    let answer = served.rest().await;
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1, text);
}
