//! What a client gets for a response message, or for a failed call.

use gateway::error::ErrorKind;
use http::{Method, StatusCode};
use serde_json::json;

use crate::library::{Answer, Library, Route, json, message, text};

fn book() -> serde_json::Value {
    json!({"id": "b 1", "title": "Émile", "pages": "512", "etag": "7"})
}

#[tokio::test]
async fn the_answer_is_proto3_json_with_defaults_written() {
    let library = Library::answering("Book", book()).await;
    let route = Route::new(&library, Method::GET, "/books/{id}");
    let response = route.send("/", &[("id", "1")], &[], "").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["etag"], "\"7\"");
    assert_eq!(json(response).await, json!({"id": "b 1", "title": "Émile", "pages": "512", "tags": [], "etag": "7"}));
}

#[tokio::test]
async fn an_empty_message_is_no_content() {
    let library = Library::answering("Shelf", json!({})).await;
    let route = Route::new(&library, Method::DELETE, "/books/{id}");
    let response = route.send("/", &[("id", "1")], &[], "").await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert!(!response.headers().contains_key("content-type"));
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn a_route_says_the_status_and_the_place_of_what_it_made() {
    let library = Library::answering("Book", book()).await;
    let config = json!({"response": {"status": 201, "location": "/books/{id}"}});
    let route = Route::configured(&library, Method::POST, "/books", config.clone());
    let response = route.post("{}").await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["location"], "/books/b%201");
    let library = Library::answering("Book", json!({})).await;
    let response = Route::configured(&library, Method::POST, "/books", config).post("{}").await.unwrap();
    assert!(!response.headers().contains_key("location"), "a place without its id is another place");
}

#[tokio::test]
async fn response_body_takes_one_field_out() {
    let library = Library::answering("Book", book()).await;
    let route = Route::new(&library, Method::GET, "/books/{id}/title");
    assert_eq!(json(route.send("/", &[("id", "1")], &[], "").await.unwrap()).await, json!("Émile"));
    let route = Route::new(&library, Method::GET, "/books/{id}/tags");
    assert_eq!(json(route.send("/", &[("id", "1")], &[], "").await.unwrap()).await, json!([]));
}

#[tokio::test]
async fn a_known_version_is_not_sent_again() {
    let library = Library::answering("Book", book()).await;
    let route = Route::new(&library, Method::GET, "/books/{id}");
    for known in ["\"7\"", "W/\"7\"", "\"6\", \"7\"", "*"] {
        let response = route.send("/", &[("id", "1")], &[("if-none-match", known)], "").await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(response.headers()["etag"], "\"7\"");
        assert_eq!(text(response).await, "");
    }
    let response = route.send("/", &[("id", "1")], &[("if-none-match", "\"6\"")], "").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_form_the_answer_does_not_have_is_refused_before_the_call() {
    let library = Library::answering("Book", book()).await;
    let route = Route::new(&library, Method::GET, "/books/{id}");
    let error = route.send("/", &[("id", "1")], &[("accept", "text/html")], "").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotAcceptable);
    assert!(library.calls().is_empty());
    route.send("/", &[("id", "1")], &[("accept", "text/html, */*;q=0.1")], "").await.unwrap();
}

#[tokio::test]
async fn a_failed_call_is_the_error_of_its_code() {
    for (code, kind) in [
        (1, ErrorKind::ClientClosed),
        (2, ErrorKind::Internal),
        (3, ErrorKind::Invalid),
        (4, ErrorKind::Timeout),
        (5, ErrorKind::NotFound),
        (6, ErrorKind::Conflict),
        (7, ErrorKind::Forbidden),
        (8, ErrorKind::RateLimited),
        (9, ErrorKind::Invalid),
        (10, ErrorKind::Conflict),
        (11, ErrorKind::Invalid),
        (12, ErrorKind::Unimplemented),
        (13, ErrorKind::Internal),
        (14, ErrorKind::Unavailable),
        (15, ErrorKind::Internal),
        (16, ErrorKind::Unauthenticated),
    ] {
        let library = Library::start(move |_| Answer::Status(code, "why", Vec::new())).await;
        let route = Route::new(&library, Method::POST, "/books");
        assert_eq!(route.post("{}").await.unwrap_err().kind, kind, "{code}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unavailable() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut library = Library::answering("Book", book()).await;
    library.address = gone;
    let route = Route::new(&library, Method::POST, "/books");
    assert_eq!(route.post("{}").await.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_answer_that_is_not_the_message_is_a_bad_gateway() {
    let library = Library::start(|_| Answer::Raw(bytes::Bytes::from_static(b"\x0a\xff"))).await;
    let route = Route::new(&library, Method::POST, "/books");
    let error = route.post("{}").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadGateway);
    // A time in the year 10000 has no JSON form.
    let library = Library::start(|_| {
        let mut everything = message("Everything", json!({"timestamp": "9999-12-31T23:59:59Z"}));
        let timestamp = everything.get_field_by_name_mut("timestamp").unwrap().as_message_mut().unwrap();
        timestamp.set_field_by_name("seconds", prost_reflect::Value::I64(253_402_300_800));
        Answer::Message(everything)
    })
    .await;
    let route = Route::new(&library, Method::POST, "/echo");
    assert_eq!(route.post("{}").await.unwrap_err().kind, ErrorKind::BadGateway);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_silent_is_a_timeout() {
    let library = Library::start(|_| Answer::Silence).await;
    let route = Route::new(&library, Method::POST, "/books");
    assert_eq!(route.post("{}").await.unwrap_err().kind, ErrorKind::Timeout);
}
