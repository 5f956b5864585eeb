//! Several calls, one answer, and what it says when some of them fail.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use gateway::{
    Body,
    action::{ConfigError, aggregate},
    context::RequestContext,
    error::{Error, ErrorKind},
    worker::{UpstreamId, Worker},
};
use http::{Request, Response};
use serde_json::{Value, json};
use upstream::Protocol;

use crate::library::{Answer, Library, context, directory, json, message, violations, worker};

/// The aggregate of a book (required) and its reviews (with a fallback) and shelf.
fn config() -> Value {
    json!([
        {"part": "book", "call": "library.v1.Library/GetBook", "required": true},
        {"part": "reviews", "call": "library.v1.Reviews/List", "request": {"book_id": "{id}", "page_size": 5},
         "pick": "reviews", "timeout": "300ms", "fallback": []},
        {"part": "more", "call": "library.v1.Library/ListBooks", "request": {"tags": "like {id}", "page_size": 3, "genre": "{query.genre}"},
         "pick": "books"},
    ])
}

fn compile(config: Value) -> Result<aggregate::Aggregate, Vec<ConfigError>> {
    let config: aggregate::Config = serde_json::from_value(config).unwrap();
    let mut directory = directory();
    directory.add_upstream("web", UpstreamId(2), None);
    aggregate::Aggregate::new(&config, &["id", "rest"], &["rest"], &directory)
}

async fn get(library: &Library, reviews: &Library, config: Value, uri: &str) -> Result<Response<Body>, Error> {
    Services::of(library, reviews).get(config, uri).await
}

/// Where the configuration is wrong: the place, and what is said of it where that tells more than the place.
pub fn paths(config: Value) -> Vec<String> {
    let errors = compile(config).err().unwrap_or_default().into_iter();
    errors
        .map(|ConfigError { path, message }| {
            let tells = message.contains(" already") || message.contains("waits") || message.contains("something else");
            if tells { format!("{path}: {message}") } else { path }
        })
        .collect()
}

/// Who is asked.
pub struct Services(Vec<(SocketAddr, Protocol)>);

impl Services {
    pub fn of(library: &Library, reviews: &Library) -> Self {
        Self([library, reviews].map(|library| (library.address, Protocol::Grpc)).to_vec())
    }

    /// Beside them one that speaks HTTP/1.1.
    pub fn and_web(mut self, web: SocketAddr) -> Self {
        self.0.push((web, Protocol::Http1));
        self
    }

    pub async fn get(&self, config: Value, uri: &str) -> Result<Response<Body>, Error> {
        self.call(config, Request::get(uri).body(Body::empty()).unwrap(), &context(&[("id", "1")])).await
    }

    /// The same within a minute.
    pub async fn patient(&self, config: Value, uri: &str) -> Result<Response<Body>, Error> {
        let mut context = context(&[("id", "1")]);
        context.deadline = Instant::now() + Duration::from_secs(60);
        self.call(config, Request::get(uri).body(Body::empty()).unwrap(), &context).await
    }

    pub async fn call(
        &self,
        config: Value,
        request: Request<Body>,
        context: &RequestContext,
    ) -> Result<Response<Body>, Error> {
        let client = |(address, protocol): &(SocketAddr, Protocol)| {
            let config = upstream::Config::new("service", vec![address.to_string()], *protocol);
            upstream::Upstream::new(config).unwrap().client()
        };
        let worker = Worker { clients: self.0.iter().map(client).collect(), ..Worker::default() };
        compile(config).unwrap_or_else(|errors| panic!("{errors:?}")).call(&worker, request, context).await
    }
}

async fn books() -> Library {
    Library::start(|call| match call.path.rsplit('/').next().unwrap() {
        "GetBook" => Answer::Message(message("Book", json!({"id": "1", "title": "x"}))),
        _ => Answer::Message(message("ListBooksResponse", json!({"books": [{"id": "2"}]}))),
    })
    .await
}

async fn reviews() -> Library {
    Library::answering("ListReviewsResponse", json!({"reviews": [{"text": "good"}]})).await
}

fn book() -> Value {
    json!({"id": "1", "title": "x", "pages": "0", "tags": [], "etag": ""})
}

#[tokio::test]
async fn parts_are_nested_in_the_order_of_the_configuration() {
    let (library, reviews) = (books().await, reviews().await);
    let response = get(&library, &reviews, config(), "/books/1?genre=NOVEL").await.unwrap();
    assert!(!response.headers().contains_key("cache-control"));
    let text = crate::library::text(response).await;
    let places: Vec<_> =
        ["\"book\":", "\"reviews\":", "\"more\":", "\"_meta\":"].map(|name| text.find(name).unwrap()).to_vec();
    assert!(places.is_sorted(), "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["book"], book());
    assert_eq!(answer["reviews"], json!([{"text": "good"}]));
    assert_eq!(answer["more"][0]["id"], "2");
    assert_eq!(
        answer["_meta"]["parts"],
        json!({"book": {"status": "ok"}, "reviews": {"status": "ok"}, "more": {"status": "ok"}})
    );
    assert_eq!(reviews.call().json(), json!({"bookId": "1", "pageSize": 5}));
    let mut calls = library.calls().iter().map(|call| call.json()).collect::<Vec<_>>();
    calls.sort_by_key(|call| call.to_string().len());
    assert_eq!(calls, [json!({"id": "1"}), json!({"tags": ["like 1"], "pageSize": 3, "genre": "NOVEL"})]);
}

#[tokio::test]
async fn an_optional_part_that_fails_leaves_its_fallback_and_a_word() {
    let library = books().await;
    let reviews = Library::start(|_| Answer::Status(14, "down", Vec::new())).await;
    let response = get(&library, &reviews, config(), "/books/1").await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let answer = json(response).await;
    assert_eq!(answer["reviews"], json!([]));
    assert_eq!(
        answer["_meta"]["parts"]["reviews"],
        json!({"status": "fallback", "reason": "unavailable", "http_status": 503})
    );
    assert_eq!(answer["book"], book());
}

#[tokio::test]
async fn without_a_fallback_a_failed_part_is_null() {
    let library = Library::start(|call| match call.path.rsplit('/').next().unwrap() {
        "GetBook" => Answer::Message(message("Book", json!({"id": "1", "title": "x"}))),
        _ => Answer::Status(5, "none", Vec::new()),
    })
    .await;
    let reviews = reviews().await;
    let answer = json(get(&library, &reviews, config(), "/books/1").await.unwrap()).await;
    assert_eq!(answer["more"], Value::Null);
    assert_eq!(
        answer["_meta"]["parts"]["more"],
        json!({"status": "failed", "reason": "not_found", "http_status": 404})
    );
}

#[tokio::test]
async fn a_required_part_that_fails_is_the_answers_failure() {
    let library = Library::start(|call| match call.path.rsplit('/').next().unwrap() {
        "GetBook" => Answer::Status(5, "no book 1", Vec::new()),
        _ => Answer::Silence,
    })
    .await;
    // Nobody waits for the parts that would still be silent.
    let silent = Library::start(|_| Answer::Silence).await;
    let start = Instant::now();
    let error = get(&library, &silent, config(), "/books/1").await.unwrap_err();
    assert_eq!((error.kind, &*error.detail), (ErrorKind::NotFound, "no book 1"));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_part_that_is_late_is_left_out_and_the_others_wait_no_longer() {
    let library = books().await;
    let silent = Library::start(|_| Answer::Silence).await;
    let start = Instant::now();
    let answer = json(get(&library, &silent, config(), "/books/1").await.unwrap()).await;
    assert_eq!(
        answer["_meta"]["parts"]["reviews"],
        json!({"status": "fallback", "reason": "deadline_exceeded", "http_status": 504})
    );
    assert!((Duration::from_millis(300)..Duration::from_millis(1500)).contains(&start.elapsed()));
}

#[tokio::test]
async fn a_part_that_is_not_the_message_is_a_failed_part() {
    let library = books().await;
    let reviews = Library::start(|_| Answer::Raw(bytes::Bytes::from_static(b"\x0a\xff"))).await;
    let answer = json(get(&library, &reviews, config(), "/books/1").await.unwrap()).await;
    assert_eq!(
        answer["_meta"]["parts"]["reviews"],
        json!({"status": "fallback", "reason": "internal", "http_status": 502})
    );
}

#[tokio::test]
async fn a_part_of_a_read_that_breaks_off_is_asked_for_again_and_one_of_a_write_is_not() {
    let config = json!([{"part": "book", "call": "library.v1.Library/GetBook", "required": true}]);
    let breaks_off_once = || {
        let first = AtomicBool::new(true);
        Library::start(move |_| match first.swap(false, Ordering::Relaxed) {
            true => Answer::Abort,
            false => Answer::Message(message("Book", json!({"id": "1"}))),
        })
    };
    let library = breaks_off_once().await;
    get(&library, &library, config.clone(), "/books/1").await.unwrap();
    assert_eq!(library.calls().len(), 2);
    let library = breaks_off_once().await;
    let request = Request::builder().method("POST").body(Body::empty()).unwrap();
    let action = compile(config).unwrap_or_else(|errors| panic!("{errors:?}"));
    let answer = action.call(&worker(&[library.address]), request, &context(&[("id", "1")])).await;
    assert_eq!(answer.unwrap_err().kind, ErrorKind::BadGateway);
    assert_eq!(library.calls().len(), 1);
}

#[tokio::test]
async fn query_parameters_are_those_of_the_parts() {
    let (library, reviews) = (books().await, reviews().await);
    let by_name = json!([
        {"part": "book", "call": "library.v1.Library/GetBook", "required": true},
        {"part": "reviews", "call": "library.v1.Reviews/List", "request": {"book_id": "{id}", "page_size": "{query.size}"}},
    ]);
    get(&library, &reviews, by_name.clone(), "/books/1?size=3&shelf.number=4").await.unwrap();
    assert_eq!(reviews.call().json(), json!({"bookId": "1", "pageSize": 3}));
    assert_eq!(library.call().json(), json!({"id": "1", "shelf": {"number": 4}}));
    let error = get(&library, &reviews, by_name, "/books/1?size=x&colour=red&id=2").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(
        violations(&error),
        [
            ("colour", "is not a known parameter"),
            ("id", "is given twice"),
            ("size", "must be a whole number of 32 bits"),
        ]
    );
}

#[test]
fn what_can_not_be_put_together_is_refused_when_it_loads() {
    let call = "library.v1.Library/GetBook";
    assert_eq!(paths(json!([])), [""]);
    assert_eq!(paths(json!(vec![json!({"part": "_meta", "call": call})])), ["[0].part"]);
    assert_eq!(
        paths(json!([{"part": "a", "call": call}, {"part": "a", "call": call}])),
        ["[1].part: there is a part `a` already"]
    );
    for unknown in ["library.v1.Library/Nothing", "library.v1.Nothing/GetBook", "GetBook"] {
        assert_eq!(paths(json!([{"part": "a", "call": unknown}])), ["[0].call"], "{unknown}");
    }
    assert_eq!(paths(json!([{"part": "a", "call": call, "upstream": "nowhere"}])), ["[0].call"]);
    assert_eq!(paths(json!([{"part": "a", "call": "library.v1.Library/Watch", "request": {}}])), ["[0].call"]);
    assert_eq!(
        paths(json!([{"part": "a", "call": call, "pick": "isbn", "timeout": "0s"}])),
        ["[0].timeout", "[0].pick"]
    );
    assert_eq!(paths(json!([{"part": "a", "call": call, "required": true, "fallback": 1}])), ["[0].fallback"]);
    let request = json!({"isbn": 1, "id": "{isbn}", "shelf": {"number": "x"}});
    assert_eq!(
        paths(json!([{"part": "a", "call": call, "request": request}])),
        ["[0].request.id", "[0].request.isbn", "[0].request.shelf"]
    );
    let request = json!({"tags": ["like {id}"]});
    assert_eq!(
        paths(json!([{"part": "a", "call": "library.v1.Library/ListBooks", "request": request}])),
        ["[0].request.tags"]
    );
    assert_eq!(paths(json!([{"part": "a", "call": "library.v1.Reviews/List"}])), ["[0].request"]);
    let many: Vec<_> = (0..17).map(|index| json!({"part": index.to_string(), "call": call})).collect();
    assert_eq!(paths(json!(many)), [""]);
}
