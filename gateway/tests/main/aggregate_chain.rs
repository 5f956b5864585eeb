//! Parts that need others, parts that are asked by HTTP, parts without a member of their own.

use std::time::Duration;

use bytes::Bytes;
use gateway::{Body, error::ErrorKind};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    aggregate::{Services, paths},
    library::{Answer, Library, context, json, message},
    running::{Running, echo, upstream},
};

fn book(id: &str, title: &str) -> Answer {
    Answer::Message(message("Book", json!({"id": id, "title": title, "shelf": {"number": 7}, "etag": "e"})))
}

async fn reviews() -> Library {
    Library::answering("ListReviewsResponse", json!({"reviews": [{"text": "good"}]})).await
}

#[tokio::test]
async fn a_part_is_asked_by_what_another_has_answered() {
    let (library, reviews) = (Library::start(|_| book("1", "Emma")).await, reviews().await);
    // The order of asking is not that of the answer.
    let config = json!([
        {"part": "reviews", "call": "library.v1.Reviews/List", "request": {"book_id": "by {parts.book.title}/{id}"}},
        {"part": "book", "call": "library.v1.Library/GetBook", "pick": "etag"},
        {"part": "same", "call": "library.v1.Library/GetBook",
         "request": {"id": "{parts.book.id}", "shelf": "{parts.book.shelf}", "shelf.number": "{parts.book.shelf.number}"}},
    ]);
    let answer = Services::of(&library, &reviews).get(config, "/books/1").await.unwrap();
    let text = crate::library::text(answer).await;
    assert!(text.starts_with(r#"{"reviews":{"reviews":[{"text":"good"}]},"book":"e","same":{"#), "{text}");
    assert_eq!(reviews.call().json(), json!({"bookId": "by Emma/1"}));
    assert_eq!(library.calls()[1].json(), json!({"id": "1", "shelf": {"number": 7}}));
}

#[tokio::test]
async fn what_others_need_and_lack_is_skipped_and_says_so() {
    let config = |required: bool| {
        json!([
            {"part": "book", "call": "library.v1.Library/GetBook", "fallback": {"title": "unknown"}},
            {"part": "reviews", "call": "library.v1.Reviews/List", "request": {"book_id": "{parts.book.title}"},
             "required": required},
            {"part": "more", "call": "library.v1.Library/ListBooks", "request": {"tags": "{parts.reviews.reviews}x"}},
        ])
    };
    let config = |required| {
        let mut config = config(required);
        config[2]["request"] = json!({"tags": "{parts.book.etag}"});
        config[2]["fallback"] = json!([]);
        config
    };
    let gone = Library::start(|_| Answer::Status(5, "no book", Vec::new())).await;
    let reviews = reviews().await;
    let answer = json(Services::of(&gone, &reviews).get(config(false), "/books/1").await.unwrap()).await;
    assert_eq!(
        (&answer["book"], &answer["reviews"], &answer["more"]),
        (&json!({"title": "unknown"}), &Value::Null, &json!([]))
    );
    let skipped = json!({"status": "skipped", "reason": "no_input", "http_status": 404, "needs": "book"});
    assert_eq!(
        answer["_meta"]["parts"]["book"],
        json!({"status": "fallback", "reason": "not_found", "http_status": 404})
    );
    assert_eq!((&answer["_meta"]["parts"]["reviews"], &answer["_meta"]["parts"]["more"]), (&skipped, &skipped));
    let error = Services::of(&gone, &reviews).get(config(true), "/books/1").await.unwrap_err();
    assert_eq!((error.kind, &*error.detail), (ErrorKind::NotFound, "no book"));

    // An empty field of proto3 is one that nobody set.
    let untitled = Library::start(|_| Answer::Message(message("Book", json!({"id": "1", "etag": "e"})))).await;
    let answer = json(Services::of(&untitled, &reviews).get(config(false), "/books/1").await.unwrap()).await;
    assert_eq!(
        answer["_meta"]["parts"]["reviews"],
        json!({"status": "skipped", "reason": "no_input", "http_status": 502, "needs": "book"})
    );
    let error = Services::of(&untitled, &reviews).get(config(true), "/books/1").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadGateway);
    assert!(reviews.calls().is_empty());
}

#[tokio::test]
async fn whatever_can_be_asked_at_once_is() {
    let (open, mut opened) = mpsc::unbounded_channel();
    let library = Library::start(move |call| {
        let (send, receive) = mpsc::channel(1);
        open.send((call.json(), send)).unwrap();
        Answer::Stream(receive)
    })
    .await;
    let call = "library.v1.Library/GetBook";
    let config = json!([
        {"part": "a", "call": call, "request": {"id": "a"}},
        {"part": "b", "call": call, "request": {"id": "b{parts.a.id}"}},
        {"part": "c", "call": call, "request": {"id": "c"}},
        {"part": "d", "call": call, "request": {"id": "d{parts.b.id}{parts.c.id}"}},
    ]);
    let services = Services::of(&library, &library);
    let answering = tokio::spawn(async move { json(services.get(config, "/books/1").await.unwrap()).await });
    let mut next = async || {
        let (asked, send) = tokio::time::timeout(Duration::from_secs(30), opened.recv()).await.unwrap().unwrap();
        let id = asked["id"].as_str().unwrap().to_owned();
        (id.clone(), async move { send.send(Ok(message("Book", json!({"id": id})))).await.unwrap() })
    };
    let (mut first, mut second) = (next().await, next().await);
    if first.0 != "a" {
        std::mem::swap(&mut first, &mut second);
    }
    assert_eq!((&*first.0, &*second.0), ("a", "c"));
    // `b` goes while `c` is silent.
    first.1.await;
    let third = next().await;
    assert_eq!(third.0, "ba");
    second.1.await;
    third.1.await;
    let fourth = next().await;
    assert_eq!(fourth.0, "dbac");
    fourth.1.await;
    assert_eq!(answering.await.unwrap()["d"]["id"], "dbac");
}

#[tokio::test]
async fn what_was_several_segments_stays_that_and_everything_else_is_one() {
    let library = Library::start(|_| book("1/2", "Emma")).await;
    let config = json!([{"part": "got", "get": "/files/{rest}/of/{id}?path={rest}", "upstream": "web"}]);
    let services = Services::of(&library, &library).and_web(echo().await);
    for (rest, path) in [
        ("a/b c", Some("/files/a/b%20c/of/x%2Fy?path=a%2Fb%20c")),
        ("a%2Fb/c", Some("/files/a%2Fb/c/of/x%2Fy?path=a%252Fb%2Fc")),
        ("a/../b", None),
    ] {
        let context = context(&[("id", "x/y"), ("rest", rest)]);
        let request = Request::get("/").body(Body::empty()).unwrap();
        let answer = json(services.call(config.clone(), request, &context).await.unwrap()).await;
        assert_eq!(answer["got"]["path"].as_str(), path, "{answer}");
    }
}

#[tokio::test]
async fn a_post_is_asked_once_whatever_the_route_is_called_by() {
    let library = Library::start(|_| book("1", "Emma")).await;
    let breaks_off = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = breaks_off.local_addr().unwrap();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&asked);
    tokio::spawn(async move {
        // Reads the beginning of a request and hangs up.
        while let Ok((mut socket, _)) = breaks_off.accept().await {
            let mut some = [0; 1024];
            if tokio::io::AsyncReadExt::read(&mut socket, &mut some).await.is_ok_and(|read| read > 0) {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
    });
    let services = Services::of(&library, &library).and_web(address);
    for (how, times) in [("post", 1), ("get", 2)] {
        asked.store(0, std::sync::atomic::Ordering::SeqCst);
        let config = json!([{"part": "web", how: "/x", "upstream": "web", "required": true}]);
        services.get(config, "/books/1").await.unwrap_err();
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), times, "{how}");
    }
}

#[tokio::test]
async fn questions_take_up_no_more_than_answers() {
    let library = Library::start(|_| book("1", "Emma")).await;
    let ids = vec!["x".repeat(30_000); 60].into_iter().enumerate().map(|(at, id)| json!(format!("{at}{id}")));
    let ids: Value = ids.collect();
    let web = upstream(move |_| {
        let body = ids.to_string();
        async move { Response::new(Full::new(Bytes::from(body))) }
    })
    .await;
    let config = json!([
        {"part": "list", "get": "/", "upstream": "web"},
        {"part": "each", "post": "/", "upstream": "web", "for_each": "{parts.list}",
         "body": {"id": "{item}", "all": "{parts.list}"}},
    ]);
    let services = Services::of(&library, &library).and_web(web);
    let answer = json(services.patient(config, "/books/1").await.unwrap()).await;
    let meta = json!({"status": "failed", "reason": "resource_exhausted", "http_status": 502});
    assert_eq!((&answer["each"], &answer["_meta"]["parts"]["each"]), (&Value::Null, &meta));
}

#[tokio::test]
async fn parts_are_asked_for_by_http_too() {
    let library = Library::start(|_| book("1/2", "Emma")).await;
    let config = json!([
        {"part": "book", "call": "library.v1.Library/GetBook"},
        {"part": "got", "get": "/authors/{parts.book.id}?q={query.q}&page={query.page}&fixed=a%20b", "upstream": "web",
         "headers": {"x-key": "k-{id}", "x-query": "{query.page}"}},
        {"part": "posted", "post": "/search", "upstream": "web", "pick": "body",
         "body": {"ids": ["{parts.book.id}", "as {id}"], "shelf": "{parts.book.shelf}", "page": "{query.page}", "n": 5}},
    ]);
    let services = Services::of(&library, &library).and_web(echo().await);
    let answer = json(services.get(config, "/books/1?q=a%26b%20%2B").await.unwrap()).await;
    let got = &answer["got"];
    assert_eq!((&got["method"], &got["path"]), (&json!("GET"), &json!("/authors/1%2F2?q=a%26b%20%2B&fixed=a%20b")));
    let headers = &got["headers"];
    assert_eq!((&headers["x-key"], &headers["x-request-id"]), (&json!("k-1"), &json!("request-1")));
    assert!(headers.get("x-query").is_none() && headers["traceparent"].is_string(), "{headers}");
    let posted: Value = serde_json::from_str(answer["posted"].as_str().unwrap()).unwrap();
    assert_eq!(posted, json!({"ids": ["1/2", "as 1"], "shelf": {"number": 7}, "page": null, "n": 5}));
    assert_eq!(answer["_meta"]["parts"]["posted"], json!({"status": "ok"}));
}

/// What a part of HTTP makes of an answer: its value and its meta.
async fn of_http(status: u16, body: &'static str) -> (Value, Value) {
    let web = upstream(move |_| async move {
        Response::builder().status(status).header("retry-after", "7").body(Full::from(body)).unwrap()
    })
    .await;
    let library = Library::start(|_| book("1", "Emma")).await;
    let services = Services::of(&library, &library).and_web(web);
    let config = json!([{"part": "a", "get": "/", "upstream": "web", "pick": "x.y"}]);
    let answer = json(services.get(config, "/books/1").await.unwrap()).await;
    (answer["a"].clone(), answer["_meta"]["parts"]["a"].clone())
}

#[tokio::test]
async fn an_answer_by_http_must_be_good_and_json() {
    assert_eq!(of_http(200, " {\"x\": {\"y\": [1, 2.50]}}\n").await, (json!([1, 2.5]), json!({"status": "ok"})));
    assert_eq!(of_http(204, "").await, (Value::Null, json!({"status": "ok"})));
    assert_eq!(of_http(200, "{}").await, (Value::Null, json!({"status": "ok"})));
    let failed =
        |reason, status: u16| (Value::Null, json!({"status": "failed", "reason": reason, "http_status": status}));
    for wrong in ["{", "{\"x\": 01}", "{} {}", "<html>", "\u{feff}{}"] {
        assert_eq!(of_http(200, wrong).await, failed("internal", 502), "{wrong}");
    }
    for (status, reason, own) in
        [(404, "not_found", 404), (429, "resource_exhausted", 429), (500, "internal", 502), (302, "internal", 502)]
    {
        assert_eq!(of_http(status, "{\"x\": {\"y\": 1}}").await, failed(reason, own), "{status}");
    }
}

#[tokio::test]
async fn an_answer_by_http_is_bounded_and_stays_where_it_is_asked() {
    let web = upstream(|request| async move {
        let letters = if request.uri().path() == "/large" { 5 << 20 } else { 1 };
        Response::new(Full::from(Bytes::from(format!("\"{}\"", "a".repeat(letters)))))
    })
    .await;
    let library = Library::start(|_| book("..", "Emma")).await;
    let services = Services::of(&library, &library).and_web(web);
    let config = json!([
        {"part": "large", "get": "/large", "upstream": "web"},
        {"part": "small", "get": "/small", "upstream": "web"},
        {"part": "book", "call": "library.v1.Library/GetBook", "pick": "id"},
        {"part": "up", "get": "/a/{parts.book.id}/b", "upstream": "web"},
    ]);
    let answer = json(services.get(config, "/books/1").await.unwrap()).await;
    let reason = |part: &str| answer["_meta"]["parts"][part]["reason"].clone();
    assert_eq!((answer["large"].clone(), reason("large")), (Value::Null, json!("resource_exhausted")));
    assert_eq!((&answer["small"], &answer["book"]), (&json!("a"), &json!("..")));
    assert_eq!(reason("up"), json!("no_input"));
}

#[tokio::test]
async fn members_of_a_flattened_part_are_those_of_the_answer() {
    let library = Library::start(|call| match call.path.ends_with("GetBook") {
        true => book("1", "Emma"),
        false => Answer::Status(14, "down", Vec::new()),
    })
    .await;
    let config = json!([
        {"part": "shelf", "call": "library.v1.Library/GetBook", "pick": "shelf", "flatten": true},
        {"part": "book", "call": "library.v1.Library/GetBook", "pick": "id"},
        {"part": "books", "call": "library.v1.Library/ListBooks", "request": {}, "flatten": true,
         "fallback": {"books": []}},
    ]);
    let services = Services::of(&library, &library);
    let text = crate::library::text(services.get(config, "/books/1").await.unwrap()).await;
    assert!(
        text.starts_with(r#"{"number":7,"book":"1","books":[],"_meta":{"parts":{"shelf":{"status":"ok"}"#),
        "{text}"
    );

    // Those of one that failed are null.
    let config = json!([{"part": "books", "call": "library.v1.Library/ListBooks", "request": {}, "flatten": true}]);
    let answer = json(services.get(config, "/books/1").await.unwrap()).await;
    assert_eq!((&answer["books"], answer.get("nextPageToken")), (&Value::Null, Some(&Value::Null)));
    let empty = Library::answering("Book", json!({})).await;
    let config = json!([{"part": "shelf", "call": "library.v1.Library/GetBook", "pick": "shelf", "flatten": true}]);
    let answer = json(Services::of(&empty, &empty).get(config, "/books/1").await.unwrap()).await;
    assert_eq!(answer, json!({"number": null, "_meta": {"parts": {"shelf": {"status": "ok"}}}}));
}

#[tokio::test]
async fn every_part_is_asked_in_the_name_of_the_caller() {
    let (library, reviews) = (Library::start(|_| book("1", "Emma")).await, reviews().await);
    let services = Services::of(&library, &reviews).and_web(echo().await);
    let config = json!([
        {"part": "book", "call": "library.v1.Library/GetBook"},
        {"part": "reviews", "call": "library.v1.Reviews/List", "request": {"book_id": "{parts.book.id}"}},
        {"part": "web", "get": "/", "upstream": "web", "pick": "headers"},
    ]);
    let mut context = context(&[("id", "1")]);
    let token = http::HeaderValue::from_static("a.b.c");
    let principal = principal::Principal { subject: "customers/1".into(), ..Default::default() };
    context.principal = Some(std::sync::Arc::new(gateway::context::Authenticated { principal, token }));
    let request = Request::get("/books/1").header("turnpike-principal", "forged").header("accept-language", "de");
    let answer = services.call(config, request.body(Body::empty()).unwrap(), &context).await.unwrap();
    let web = json(answer).await["web"].clone();
    assert_eq!((&web["turnpike-principal"], &web["accept-language"]), (&json!("a.b.c"), &json!("de")));
    for call in [library.call(), reviews.call()] {
        assert_eq!(call.metadata["turnpike-principal"], "a.b.c");
        assert_eq!(call.metadata["accept-language"], "de");
    }
}

#[tokio::test]
async fn what_is_kept_of_a_part_is_for_its_caller_or_for_everybody() {
    let library = Library::start(|call| {
        let name = if call.metadata.contains_key("turnpike-principal") { "somebody" } else { "nobody" };
        book(call.json()["id"].as_str().unwrap(), name)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.yaml");
    let [one, other] = ["a/1", "a/2"].map(|subject| gateway::keys::new(&keys, subject, &[], None).unwrap());
    let descriptors = crate::library::descriptors_file();
    let part = |cache: &str| {
        format!("- {{part: book, call: library.v1.Library/GetBook, pick: title, cache: {{ttl: 1h{cache}}}}}")
    };
    let gateway = Running::start(&format!(
        "authentication: {{api_keys: {{file: '{}'}}}}\n\
         upstreams: {{library: {{endpoints: ['{}'], protocol: grpc, descriptors: '{}'}}}}\n\
         routes:\n\
         - match: {{path: '/own/{{id}}'}}\n  upstream: library\n  aggregate:\n  {}\n\
         - match: {{path: '/all/{{id}}'}}\n  upstream: library\n  aggregate:\n  {}\n\
         - match: {{path: '/write/{{id}}', method: POST}}\n  upstream: library\n  aggregate:\n  {}\n",
        keys.display(),
        library.address,
        descriptors.display(),
        part(""),
        part(", per: public"),
        part(""),
    ))
    .await;
    let mut calls = 0;
    let mut ask = async |method: &str, path: &str, key: &str, expected: &str| {
        let headers: &[(&str, &str)] = if key.is_empty() { &[] } else { &[("x-api-key", key)] };
        let answer = gateway.send(method, path, headers, "").await;
        assert_eq!(serde_json::from_str::<Value>(&answer.body).unwrap()["book"], expected, "{path} {key}");
        let now = library.calls().len();
        std::mem::replace(&mut calls, now) < now
    };
    for (method, path, key, expected, is_asked) in [
        ("GET", "/own/1", "", "nobody", true),
        ("GET", "/own/1", "", "nobody", false),
        ("GET", "/own/2", "", "nobody", true),
        ("GET", "/own/1", &*one, "somebody", true),
        ("GET", "/own/1", &*one, "somebody", false),
        ("GET", "/own/1", &*other, "somebody", true),
        ("GET", "/all/3", &*one, "nobody", true),
        ("GET", "/all/3", "", "nobody", false),
        ("GET", "/all/3", &*other, "nobody", false),
        ("POST", "/write/4", "", "nobody", true),
        ("POST", "/write/4", "", "nobody", true),
    ] {
        assert_eq!(ask(method, path, key, expected).await, is_asked, "{method} {path} {key}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn who_leaves_ends_every_call() {
    let (library, reviews) = (Library::start(|_| Answer::Silence).await, Library::start(|_| Answer::Silence).await);
    let services = Services::of(&library, &reviews);
    let config = json!([
        {"part": "book", "call": "library.v1.Library/GetBook", "required": true},
        {"part": "reviews", "call": "library.v1.Reviews/List", "request": {}},
    ]);
    let asking = tokio::spawn(async move { services.get(config, "/books/1").await.map(|_| ()) });
    let patience = Duration::from_secs(30);
    let under_way = async |count| (library.under_way() + reviews.under_way() == count).then_some(());
    testkit::eventually("both are asked", patience, async || under_way(2).await).await;
    asking.abort();
    testkit::eventually("both are given up", patience, async || under_way(0).await).await;
}

#[test]
fn what_parts_name_must_be_there() {
    let get = "library.v1.Library/GetBook";
    let one = |request: Value| json!([{"part": "book", "call": get}, {"part": "b", "call": get, "request": request}]);
    for wrong in [
        "{parts.bok.id}",
        "{parts.book.isbn}",
        "{parts.book.id.x}",
        "{parts.book.tags}",
        "{parts.book}",
        "{parts.book.shelf}",
        "{item.id}",
        "{item}",
        "{isbn}",
        "{parts.}",
        "{parts.book.id",
    ] {
        assert_eq!(paths(one(json!({"id": wrong}))), ["[1].request.id"], "{wrong}");
    }
    assert_eq!(paths(one(json!({"id": "{parts.book.id}", "shelf": "{parts.book.shelf}"}))), [""; 0]);
    let needs = |name: &str, other: &str| json!({"part": name, "call": get, "request": {"id": format!("{{parts.{other}.id}}")}});
    assert_eq!(paths(json!([needs("a", "a")])), ["[0]: waits for itself: a needs a"]);
    assert_eq!(
        paths(json!([{"part": "x", "call": get}, needs("a", "c"), needs("b", "a"), needs("c", "b")])),
        ["[1]: waits for itself: a needs c needs b needs a"]
    );
}

#[test]
fn a_part_asks_in_one_way_and_says_only_what_belongs_to_it() {
    let get = "library.v1.Library/GetBook";
    let one = |part: Value| {
        let mut part = part;
        part["part"] = "a".into();
        paths(json!([part]))
    };
    assert_eq!(one(json!({})), ["[0]"]);
    assert_eq!(one(json!({"call": get, "get": "/", "upstream": "web"})), ["[0]"]);
    assert_eq!(one(json!({"get": "/"})), ["[0].get"]);
    assert_eq!(one(json!({"get": "/", "upstream": "nowhere"})), ["[0].upstream"]);
    for wrong in ["", "a", "/a#b", "/a b", "/{isbn}", "/{", "/?a={isbn}"] {
        assert_eq!(one(json!({"get": wrong, "upstream": "web"})), ["[0].get"], "{wrong}");
    }
    assert_eq!(one(json!({"post": "/", "upstream": "web", "body": {"a": ["{isbn}"]}})), ["[0].body"]);
    let headers =
        json!({"get": "/", "upstream": "web", "headers": {"a b": "", "turnpike-principal": "me", "x": "{isbn}"}});
    assert_eq!(one(headers), ["[0].headers.x", "[0].headers.a b", "[0].headers.turnpike-principal"]);
    assert_eq!(
        one(json!({"get": "/", "upstream": "web", "request": {}, "body": 1, "flatten": true})),
        ["[0].request", "[0].body", "[0].flatten", "[0].flatten"]
    );
    assert_eq!(one(json!({"call": get, "headers": {"x": "y"}, "into": "a"})), ["[0].headers", "[0].into"]);
}

#[test]
fn members_of_one_name_are_refused() {
    let (get, list) = ("library.v1.Library/GetBook", "library.v1.Library/ListBooks");
    let flat = json!({"part": "book", "call": get, "flatten": true});
    assert_eq!(paths(json!([flat, {"part": "title", "call": get}])), ["[1].part: `title` is a member of book already"]);
    assert_eq!(
        paths(json!([{"part": "books", "call": get}, {"part": "x", "call": list, "request": {}, "flatten": true}])),
        ["[1].flatten: `books` is a member of books already"]
    );
    for unknown in ["title", "tags"] {
        let config = json!([{"part": "a", "call": get, "flatten": true, "pick": unknown}]);
        assert_eq!(paths(config), ["[0].flatten"], "{unknown}");
    }
    let config = json!([{"part": "a", "call": get, "flatten": true, "fallback": {"isbn": 1}}]);
    assert_eq!(paths(config), ["[0].fallback"]);
}
