//! What the client's side of a connection makes of an answer, byte by byte, and what it sends.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use http1::client::{Connection, Error, Incoming};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;
type Answer = Result<Response<Incoming<DuplexStream, Body>>, Error>;

/// More than anything here says.
const ROOM: usize = 1 << 20;

fn whole(text: &'static str) -> Body {
    Full::new(Bytes::from(text)).map_err(Into::into).boxed_unsync()
}

fn streamed(frames: Vec<Result<Frame<Bytes>, BoxError>>) -> Body {
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from(text)))
}

fn request(method: Method) -> Request<()> {
    Request::builder().method(method).uri("/a?b").header("host", "shop.example").body(()).unwrap()
}

fn get() -> Request<()> {
    request(Method::GET)
}

/// Sends a request to whom has this answer ready; also returns its end of the connection.
async fn sent(request: Request<()>, body: Body, answer: &str) -> (Answer, DuplexStream) {
    let (near, mut far) = duplex(ROOM);
    far.write_all(answer.as_bytes()).await.unwrap();
    (Connection::new(near).send(&request, body).await, far)
}

/// The answer to a GET from whom hangs up after it: its body, and whether the connection may be used again.
async fn answered(answer: &str) -> Result<(Response<()>, String, bool), Error> {
    let (near, mut far) = duplex(ROOM);
    far.write_all(answer.as_bytes()).await.unwrap();
    far.shutdown().await.unwrap();
    taken(Connection::new(near).send(&get(), whole("")).await?).await
}

async fn taken(response: Response<Incoming<DuplexStream, Body>>) -> Result<(Response<()>, String, bool), Error> {
    let (parts, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    assert!(incoming.is_end_stream());
    let is_kept = incoming.into_connection().is_some();
    Ok((Response::from_parts(parts, ()), String::from_utf8(body).unwrap(), is_kept))
}

#[tokio::test]
async fn a_body_has_ended_with_its_trailers() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n";
    let (answer, _far) = sent(get(), whole(""), answer).await;
    let mut incoming = answer.unwrap().into_body();
    assert!(incoming.frame().await.unwrap().unwrap().is_data());
    assert!(incoming.frame().await.unwrap().unwrap().is_trailers());
    assert!(incoming.is_end_stream());
    assert!(incoming.into_connection().is_some(), "whoever has them doesn't ask again");
}

/// What a request is on the wire.
async fn written(request: Request<()>, body: Body) -> String {
    let (answer, mut far) = sent(request, body, "HTTP/1.1 204 No Content\r\n\r\n").await;
    drop(answer.unwrap());
    let mut text = String::new();
    far.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_body_ends_where_its_head_says() {
    for (answer, body, is_kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", "hello", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", "hello", true),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "hello", false),
        ("HTTP/1.0 200 OK\r\n\r\nhello", "hello", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "hello", true),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "", true),
    ] {
        let (_, text, kept) = answered(answer).await.unwrap();
        assert_eq!((&text[..], kept), (body, is_kept), "{answer:?}");
    }
}

#[tokio::test]
async fn the_answer_to_head_has_no_body_whatever_it_says() {
    let (response, _far) = sent(request(Method::HEAD), whole(""), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let (head, body, is_kept) = taken(response.unwrap()).await.unwrap();
    assert_eq!((&head.headers()["content-length"], &body[..], is_kept), (&"5".parse().unwrap(), "", true));
}

#[tokio::test]
async fn trailers_come_after_the_body() {
    let answer =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n";
    let (response, _far) = sent(get(), whole(""), answer).await;
    let collected = response.unwrap().into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"7".parse().unwrap()));
}

#[tokio::test]
async fn a_whole_body_is_taken_at_once_and_half_of_one_is_not() {
    let (response, _far) = sent(get(), whole(""), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let mut incoming = response.unwrap().into_body();
    assert_eq!(incoming.take_whole().unwrap(), "hello");
    assert!(incoming.into_connection().is_some());
    let (response, _far) = sent(get(), whole(""), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell").await;
    assert_eq!(response.unwrap().into_body().take_whole(), None);
}

#[tokio::test]
async fn what_is_cut_off_is_an_error_and_never_a_shorter_body() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        "",
    ] {
        assert!(matches!(answered(answer).await.unwrap_err(), Error::Closed), "{answer:?}");
    }
}

#[tokio::test]
async fn what_could_be_read_differently_is_no_answer() {
    for answer in [
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0, 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        assert!(matches!(answered(answer).await.unwrap_err(), Error::Invalid(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn interim_answers_are_skipped_but_not_for_ever() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 x\r\n\r\n";
    let (head, _, is_kept) = answered(answer).await.unwrap();
    assert_eq!((head.status(), head.headers().len(), is_kept), (StatusCode::NO_CONTENT, 0, true));
    let answer = "HTTP/1.1 100 Continue\r\n\r\n".repeat(17) + "HTTP/1.1 204 x\r\n\r\n";
    assert!(matches!(answered(&answer).await.unwrap_err(), Error::Interim));
}

#[tokio::test]
async fn a_head_without_end_is_given_up() {
    let answer = format!("HTTP/1.1 200 OK\r\n{}", "X-A: 1\r\n".repeat(20_000));
    assert!(matches!(answered(&answer).await.unwrap_err(), Error::Invalid(http1::Error::FieldsTooLong)));
}

#[tokio::test]
async fn a_connection_on_which_more_was_said_is_not_used_again() {
    let more = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert!(!answered(more).await.unwrap().2);
    let no_body = "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello";
    assert!(!answered(no_body).await.unwrap().2);
}

#[tokio::test]
async fn an_idle_connection_is_fit_until_the_peer_closes_it_or_speaks() {
    let (near, mut far) = duplex(ROOM);
    far.write_all(b"HTTP/1.1 204 x\r\n\r\n").await.unwrap();
    let incoming = Connection::<_, Body>::new(near).send(&get(), whole("")).await.unwrap().into_body();
    let mut connection = incoming.into_connection().unwrap();
    assert!(connection.is_fit());
    far.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    assert!(!connection.is_fit());
    let (near, far) = duplex(ROOM);
    let mut connection = Connection::<_, Body>::new(near);
    assert!(connection.is_fit());
    drop(far);
    assert!(!connection.is_fit());
}

#[tokio::test]
async fn one_connection_carries_one_exchange_after_another() {
    let (near, mut far) = duplex(ROOM);
    let mut connection = Connection::<_, Body>::new(near);
    for size in [0, 1, 10_000, 200_000, 3] {
        let body = "x".repeat(size);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        far.write_all((head + &body).as_bytes()).await.unwrap();
        let mut incoming = connection.send(&get(), whole("")).await.unwrap().into_body();
        assert_eq!((&mut incoming).collect().await.unwrap().to_bytes(), body);
        connection = incoming.into_connection().unwrap();
    }
}

#[tokio::test]
async fn a_request_is_written_as_it_is_meant() {
    assert_eq!(written(get(), whole("")).await, "GET /a?b HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    assert_eq!(
        written(request(Method::POST), whole("")).await,
        "POST /a?b HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 0\r\n\r\n"
    );
    assert_eq!(
        written(request(Method::PUT), whole("order")).await,
        "PUT /a?b HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\n\r\norder"
    );
    let pieces = streamed(vec![data("or"), data(""), data("der")]);
    assert_eq!(
        written(request(Method::POST), pieces).await,
        "POST /a?b HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n2\r\nor\r\n3\r\nder\r\n0\r\n\r\n"
    );
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let pieces = streamed(vec![data("or"), Ok(Frame::trailers(trailers))]);
    assert_eq!(
        written(request(Method::POST), pieces).await,
        "POST /a?b HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n2\r\nor\r\n0\r\nx-sum: 7\r\n\r\n"
    );
}

#[tokio::test]
async fn the_target_takes_its_origin_form() {
    for (uri, target) in [
        ("http://shop.example/a?b", "/a?b"),
        ("http://shop.example?b", "/?b"),
        ("http://shop.example", "/"),
        ("*", "*"),
    ] {
        let request = Request::builder().method(Method::OPTIONS).uri(uri).body(()).unwrap();
        assert_eq!(written(request, whole("")).await, format!("OPTIONS {target} HTTP/1.1\r\n\r\n"));
    }
}

#[tokio::test]
async fn what_frames_a_request_is_not_taken_from_its_fields() {
    let mut lying = request(Method::POST);
    for (name, value) in [("content-length", "999"), ("transfer-encoding", "chunked"), ("connection", "close")] {
        lying.headers_mut().insert(name, value.parse().unwrap());
    }
    let text = written(lying, whole("order")).await;
    assert_eq!(text, "POST /a?b HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 5\r\n\r\norder");
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_said_ends_the_connection_before_the_difference() {
    for (frames, told) in [(vec![data("or")], "or"), (vec![data("or"), data("dering")], "or")] {
        let (near, mut far) = duplex(ROOM);
        let mut request = request(Method::POST);
        request.headers_mut().insert("content-length", "5".parse().unwrap());
        let error = Connection::new(near).send(&request, streamed(frames)).await.err().unwrap();
        assert!(matches!(error, Error::RequestBody(_)), "{error}");
        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, told);
    }
}

#[tokio::test]
async fn a_request_body_that_fails_is_told_apart() {
    let body = streamed(vec![data("or"), Err("the client went away".into())]);
    let (near, _far) = duplex(ROOM);
    let error = Connection::new(near).send(&request(Method::POST), body).await.err().unwrap();
    assert!(error.to_string().contains("the client went away"), "{error}");
}

#[tokio::test]
async fn an_answer_may_begin_before_its_request_ends() {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
    let receiving = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    let body = StreamBody::new(Box::pin(receiving)).boxed_unsync();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (response, mut far) = sent(request(Method::POST), body, head).await;
    let mut incoming = response.unwrap().into_body();
    for word in ["one", "two"] {
        sender.send(data(word)).await.unwrap();
        let echo = async {
            let mut seen = Vec::new();
            while !String::from_utf8_lossy(&seen).contains(word) {
                assert_ne!(far.read_buf(&mut seen).await.unwrap(), 0);
            }
            far.write_all(format!("3\r\n{word}\r\n").as_bytes()).await.unwrap();
        };
        let ((), frame) = tokio::join!(echo, incoming.frame());
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), word);
    }
    far.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(incoming.frame().await.is_none());
    assert!(incoming.into_connection().is_none(), "the request has not ended");
}

/// A socket that takes so many bytes and then breaks, but has an answer.
struct Breaking {
    takes: usize,
    answer: &'static [u8],
}

impl AsyncRead for Breaking {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffer.put_slice(std::mem::take(&mut self.answer));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.takes == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = bytes.len().min(self.takes);
        self.takes -= taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_request_of_which_nothing_was_taken_is_unsent() {
    let breaking = |takes, answer| Connection::new(Breaking { takes, answer }).send(&get(), whole(""));
    assert!(matches!(breaking(0, b"").await.err().unwrap(), Error::Unsent(_)));
    assert!(matches!(breaking(1, b"").await.err().unwrap(), Error::Io(_)));
}

#[tokio::test]
async fn whoever_stops_reading_a_request_may_still_have_answered_it() {
    let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    let response = Connection::new(Breaking { takes: 20, answer }).send(&request(Method::POST), whole("order")).await;
    let mut incoming =
        response.unwrap().map(|mut incoming| (incoming.take_whole(), incoming.into_connection().is_some()));
    assert_eq!(incoming.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(incoming.body_mut().0.as_deref(), Some(&b"no"[..]));
    assert!(!incoming.body().1);
}

/// Counts the writes, and takes all of each.
#[derive(Default)]
struct Counting(Arc<Mutex<Vec<usize>>>);

impl AsyncRead for Counting {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffer.put_slice(b"HTTP/1.1 204 x\r\n\r\n");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counting {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().push(bytes.len());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(context, &bytes.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn head_and_body_are_one_write() {
    for body in [whole(""), whole("order"), streamed(vec![data("order")])] {
        let writes = Counting::default();
        let counted = Arc::clone(&writes.0);
        Connection::new(writes).send(&request(Method::POST), body).await.map(drop).unwrap();
        assert!(counted.lock().unwrap()[0] > 50, "{counted:?}");
    }
}

#[tokio::test]
async fn a_101_that_was_asked_for_hands_over_the_connection_and_what_came_with_it() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nhel";
    let mut request = get();
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let (response, mut far) = sent(request, whole(""), answer).await;
    let mut response = response.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::SWITCHING_PROTOCOLS, Version::HTTP_11));
    let upgrade = response.extensions_mut().remove::<http1::upgrade::OnUpgrade>().unwrap();
    assert!(response.into_body().into_connection().is_none());
    let mut upgraded = upgrade.await.unwrap();
    far.write_all(b"lo").await.unwrap();
    let mut text = [0; 5];
    upgraded.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hello");
    upgraded.write_all(b"frame").await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"frame") {
        assert_ne!(far.read_buf(&mut asked).await.unwrap(), 0);
    }
    assert!(String::from_utf8(asked).unwrap().contains("\r\nconnection: upgrade\r\n"));
}

#[tokio::test]
async fn a_101_nobody_asked_for_is_no_answer() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n";
    assert!(matches!(answered(answer).await.unwrap_err(), Error::Unasked));
}
