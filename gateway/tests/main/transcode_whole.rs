//! The actions behind the whole pipeline: a configuration file, a socket, problem documents.

use http::Request;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    library::{Answer, Library, descriptors_file, message},
    running::Running,
};

/// `google.rpc.Status { code: 9, details: [PreconditionFailure { violations: [{ type: "ETAG" }] }] }`.
fn stale() -> Vec<u8> {
    let violation = [&[0x0a, 0x06][..], &[0x0a, 0x04], b"ETAG"].concat();
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.PreconditionFailure".to_owned(),
        value: violation,
    }
    .encode_to_vec();
    [&[0x08, 9, 0x1a, u8::try_from(detail.len()).unwrap()][..], &detail].concat()
}

async fn library() -> Library {
    Library::start(|call| {
        let asked = call.json();
        match call.path.rsplit('/').next().unwrap() {
            "GetBook" if asked["id"] == "none" => Answer::Status(5, "no book none", Vec::new()),
            "GetBook" | "CreateBook" => Answer::Message(message("Book", json!({"id": "1", "title": "x", "etag": "7"}))),
            "UpdateBook" if asked["etag"] == "6" => Answer::Status(9, "stale", stale()),
            "UpdateBook" => Answer::Message(message("Book", asked["book"].clone())),
            "DeleteBook" => Answer::Message(message("Shelf", json!({}))),
            "Watch" => {
                let (sender, receiver) = tokio::sync::mpsc::channel(2);
                sender.try_send(Ok(message("Book", json!({"id": "1"})))).unwrap();
                sender.try_send(Err((14, "moving".into()))).unwrap();
                Answer::Stream(receiver)
            }
            "List" => Answer::Status(14, "down", Vec::new()),
            other => panic!("{other} was called"),
        }
    })
    .await
}

async fn start(library: &Library) -> (Running, tempfile::TempPath) {
    let descriptors = descriptors_file();
    let config = format!(
        "upstreams:
  library: {{ endpoints: ['{}'], protocol: grpc, descriptors: '{}' }}
routes:
  - match: {{ path: '/books/{{id}}/page', method: GET }}
    upstream: library
    aggregate:
      - {{ part: book, call: library.v1.Library/GetBook, required: true }}
      - {{ part: reviews, call: library.v1.Reviews/List, request: {{ book_id: '{{id}}' }}, pick: reviews, fallback: [] }}
  - grpc: library.v1.Library
    upstream: library
    methods:
      CreateBook: {{ response: {{ status: 201, location: '/books/{{id}}' }} }}
",
        library.address,
        descriptors.display(),
    );
    (Running::start(&config).await, descriptors)
}

fn body(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_book_is_made_read_changed_and_removed() {
    let library = library().await;
    let (gateway, _descriptors) = start(&library).await;
    let answer = gateway.send("POST", "/books", &[JSON], r#"{"title": "x"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.header("location").as_str()), (201, "/books/1"));
    let answer = gateway.get("/books/1").await;
    assert_eq!((answer.status.as_u16(), answer.header("etag").as_str()), (200, "\"7\""));
    assert_eq!(body(&answer.body)["title"], "x");
    let answer = gateway.send("GET", "/books/1", &[("if-none-match", "\"7\"")], "").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (304, ""));
    let answer = gateway.send("PATCH", "/books/1", &[JSON, ("if-match", "\"7\"")], r#"{"title": "y"}"#).await;
    assert_eq!(body(&answer.body)["title"], "y");
    let asked = library.calls().last().unwrap().json();
    assert_eq!(asked, json!({"book": {"id": "1", "title": "y"}, "etag": "7", "updateMask": "title"}));
    let answer = gateway.send("DELETE", "/books/1", &[], "").await;
    assert_eq!(answer.status, 204);
    gateway.stop().await;
}

#[tokio::test]
async fn what_goes_wrong_is_a_problem_document() {
    let (gateway, _descriptors) = start(&library().await).await;
    let answer = gateway.get("/books/none").await;
    assert_eq!((answer.status.as_u16(), &answer.problem()["detail"]), (404, &json!("no book none")));
    let answer = gateway.send("PATCH", "/books/1", &[JSON, ("if-match", "\"6\"")], r#"{"title": "y"}"#).await;
    assert_eq!(answer.status, 412);
    answer.problem();
    let answer = gateway.send("POST", "/books?colour=red", &[JSON], r#"{"titel": "x", "pages": "many"}"#).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.problem()["errors"],
        json!([
            {"field": "titel", "reason": "is not a known field"},
            {"field": "pages", "reason": "must be a whole number of 64 bits"},
            {"field": "colour", "reason": "is not a known parameter"},
        ])
    );
    let answer = gateway.send("POST", "/books", &[("content-type", "text/plain")], "x").await;
    assert_eq!((answer.status.as_u16(), &answer.problem()["status"]), (415, &json!(415)));
    assert_eq!(gateway.send("GET", "/books/1", &[("accept", "image/png")], "").await.status, 406);
    gateway.stop().await;
}

#[tokio::test]
async fn a_page_is_partial_and_says_so() {
    let (gateway, _descriptors) = start(&library().await).await;
    let answer = gateway.get("/books/1/page").await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control").as_str()), (200, "no-store"));
    let page = body(&answer.body);
    assert_eq!((&page["book"]["id"], &page["reviews"]), (&json!("1"), &json!([])));
    assert_eq!(page["_meta"]["parts"]["reviews"]["reason"], "unavailable");
    assert_eq!(gateway.get("/books/none/page").await.status, 404);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_that_fails_ends_with_the_problem_document() {
    let (gateway, _descriptors) = start(&library().await).await;
    let answer = gateway.send("GET", "/books:watch", &[("accept", "text/event-stream")], "").await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let (event, error) = answer.body.split_once("\n\n").unwrap();
    assert_eq!(body(event.strip_prefix("data: ").unwrap())["id"], "1");
    let problem = body(error.trim_end().strip_prefix("event: error\ndata: ").unwrap());
    assert_eq!((&problem["status"], &problem["instance"]), (&json!(503), &json!("/books:watch")));
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
    gateway.stop().await;
}

#[tokio::test]
async fn an_array_that_fails_does_not_look_complete() {
    let (gateway, _descriptors) = start(&library().await).await;
    for coding in ["identity", "gzip"] {
        let request = format!("GET /books:watch HTTP/1.1\r\nhost: gateway.test\r\naccept-encoding: {coding}\r\n\r\n");
        let answer = gateway.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("transfer-encoding: chunked"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "there is no last chunk: {answer}");
    }
    let io = TokioIo::new(TcpStream::connect(gateway.address).await.unwrap());
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://gateway.test/books:watch").body(String::new()).unwrap();
    let failed = match client.send_request(request).await {
        Ok(response) => {
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap_err()
        }
        // The reset may come before the client has looked at the head.
        Err(error) => error,
    };
    assert!(format!("{failed:?}").contains("Reset"), "{failed:?}");
    gateway.stop().await;
}
