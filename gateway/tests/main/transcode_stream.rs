//! Server streaming as a JSON array, NDJSON and server-sent events.

use gateway::{Body, error::ErrorKind};
use http::{Method, Response};
use http_body_util::BodyExt as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::library::{Answer, Library, Route, message, text};

type Messages = mpsc::Sender<Result<DynamicMessage, (i32, String)>>;

/// A stream whose messages the test sends.
async fn watch(accept: &str) -> (Messages, Response<Body>) {
    let (sender, receiver) = mpsc::channel(1);
    let receiver = std::sync::Mutex::new(Some(receiver));
    let library = Library::start(move |_| Answer::Stream(receiver.lock().unwrap().take().unwrap())).await;
    let route = Route::new(&library, Method::GET, "/books:watch");
    let response = route.send("/books:watch", &[], &[("accept", accept)], "").await.unwrap();
    (sender, response)
}

fn book(id: &str) -> Result<DynamicMessage, (i32, String)> {
    Ok(message("Book", json!({"id": id})))
}

fn whole(id: &str) -> Value {
    json!({"id": id, "title": "", "pages": "0", "tags": [], "etag": ""})
}

async fn next(body: &mut Body) -> String {
    String::from_utf8(body.frame().await.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_stream_is_an_array_unless_the_client_wants_another_form() {
    let (messages, response) = watch("*/*").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    tokio::spawn(async move {
        for id in ["1", "2"] {
            messages.send(book(id)).await.unwrap();
        }
    });
    let array: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(array, json!([whole("1"), whole("2")]));
}

#[tokio::test]
async fn an_empty_stream_is_an_empty_array() {
    let (messages, response) = watch("application/json").await;
    drop(messages);
    assert_eq!(text(response).await, "[]");
}

#[tokio::test]
async fn messages_are_written_as_they_come() {
    for (accept, before, after) in
        [("application/json", "[", ""), ("application/x-ndjson", "", "\n"), ("text/event-stream", "data: ", "\n\n")]
    {
        let (messages, response) = watch(accept).await;
        assert_eq!(response.headers()["content-type"], accept);
        let mut body = response.into_body();
        messages.send(book("1")).await.unwrap();
        // The second message isn't sent yet.
        let first = next(&mut body).await;
        let json = first.strip_prefix(before).unwrap().strip_suffix(after).unwrap();
        assert_eq!(serde_json::from_str::<Value>(json).unwrap(), whole("1"));
        messages.send(book("2")).await.unwrap();
        assert!(next(&mut body).await.contains("\"2\""));
    }
}

#[tokio::test]
async fn a_failure_after_the_beginning_is_told_within_the_stream() {
    for (accept, before, after) in
        [("application/x-ndjson", "{\"error\":", "}\n"), ("text/event-stream", "event: error\ndata: ", "\n\n")]
    {
        let (messages, response) = watch(accept).await;
        let mut body = response.into_body();
        messages.send(book("1")).await.unwrap();
        next(&mut body).await;
        messages.send(Err((5, "gone".into()))).await.unwrap();
        let last = next(&mut body).await;
        let problem: Value =
            serde_json::from_str(last.strip_prefix(before).unwrap().strip_suffix(after).unwrap()).unwrap();
        assert_eq!(problem["status"], 404);
        assert_eq!(problem["detail"], "gone");
        assert_eq!(problem["instance"], "/books:watch");
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn an_array_that_fails_is_broken_off_so_that_nobody_takes_it_for_whole() {
    let (messages, response) = watch("application/json").await;
    let mut body = response.into_body();
    messages.send(book("1")).await.unwrap();
    next(&mut body).await;
    messages.send(Err((13, "bug".into()))).await.unwrap();
    assert!(body.frame().await.unwrap().is_err());
}

#[tokio::test]
async fn a_call_that_fails_at_once_is_a_plain_error() {
    let library = Library::start(|_| Answer::Status(7, "not yours", Vec::new())).await;
    let route = Route::new(&library, Method::GET, "/books:watch");
    let error = route.send("/", &[], &[("accept", "text/event-stream")], "").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    let error = route.send("/", &[], &[("accept", "text/html")], "").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotAcceptable);
}

#[tokio::test]
async fn a_service_is_not_read_faster_than_the_client_reads() {
    let (messages, response) = watch("application/x-ndjson").await;
    let mut sent = 0;
    let large = message("Book", json!({"title": "x".repeat(256 * 1024)}));
    // Buffers on the way take some; then the service has to wait.
    while let Ok(Ok(())) =
        tokio::time::timeout(std::time::Duration::from_secs(1), messages.send(Ok(large.clone()))).await
    {
        sent += 1;
        assert!(sent < 100, "25 MiB were taken from the service, and none by the client");
    }
    drop(messages);
    let lines = text(response).await.lines().count();
    assert_eq!(lines, sent);
}

#[tokio::test]
async fn an_event_stream_is_never_silent_for_long() {
    let (messages, response) = watch("text/event-stream").await;
    let mut body = response.into_body();
    messages.send(book("1")).await.unwrap();
    next(&mut body).await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    assert_eq!(next(&mut body).await, ":\n\n");
    assert!((15..17).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    tokio::time::resume();
    messages.send(book("2")).await.unwrap();
    assert!(next(&mut body).await.contains("\"2\""));
}

#[tokio::test]
async fn a_service_that_is_silent_for_too_long_fails_the_stream() {
    let (messages, response) = watch("text/event-stream").await;
    let mut body = response.into_body();
    messages.send(book("1")).await.unwrap();
    next(&mut body).await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let last = loop {
        match next(&mut body).await {
            comment if comment == ":\n\n" => {}
            last => break last,
        }
    };
    assert!(last.starts_with("event: error\n") && last.contains("504"), "{last}");
    assert!((299..303).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
}
