//! Parts that are asked for each element of a list.

use std::{collections::BTreeSet, time::Duration};

use gateway::error::ErrorKind;
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    aggregate::{Services, paths},
    library::{Answer, Library, json, message, text},
    running::upstream,
};

const GET: &str = "library.v1.Library/GetBook";

/// Reviews whose texts are these.
async fn reviews(texts: &[&str]) -> Library {
    let reviews: Vec<_> = texts.iter().map(|text| json!({"text": text})).collect();
    Library::answering("ListReviewsResponse", json!({"reviews": reviews})).await
}

/// A part for each of the reviews, beside them.
fn config(part: Value) -> Value {
    let mut part = part;
    part["part"] = "books".into();
    part["for_each"] = "{parts.reviews.reviews}".into();
    if part.get("call").is_none() && part.get("get").is_none() {
        part["call"] = GET.into();
        part["request"] = json!({"id": "{item.text}"});
    }
    json!([{"part": "reviews", "call": "library.v1.Reviews/List", "request": {}, "pick": "reviews"}, part])
}

/// A batch of them.
fn batch(part: Value) -> Value {
    let mut part = part;
    part["call"] = "library.v1.Library/ListBooks".into();
    part["request"] = json!({"tags": "{item.text}", "page_size": 9});
    part["batch"] = json!({"list": "books", "key": "id"});
    config(part)
}

/// Books by id: `gone` there isn't, `down` can't be asked for.
async fn books() -> Library {
    Library::start(|call| match call.json()["id"].as_str().unwrap() {
        "gone" => Answer::Status(5, "no such book", Vec::new()),
        "down" => Answer::Status(14, "down", Vec::new()),
        id => Answer::Message(message("Book", json!({"id": id, "title": format!("T{id}")}))),
    })
    .await
}

fn titles(answer: &Value) -> Vec<Option<&str>> {
    answer["books"].as_array().unwrap().iter().map(|book| book["title"].as_str()).collect()
}

#[tokio::test]
async fn answers_stand_in_the_order_of_the_elements() {
    let (library, reviews) = (books().await, reviews(&["1", "gone", "2", "", "1", "down"]).await);
    let services = Services::of(&library, &reviews);
    let answer = json(services.get(config(json!({"fallback": {"title": "?"}})), "/books/1").await.unwrap()).await;
    assert_eq!(titles(&answer), [Some("T1"), Some("?"), Some("T2"), Some("?"), Some("T1"), Some("?")]);
    assert_eq!(
        answer["_meta"]["parts"]["books"],
        json!({"status": "partial", "reason": "unavailable", "http_status": 503, "elements": 6, "failed": 1, "missing": 2})
    );
    let asked: BTreeSet<_> = library.calls().iter().map(|call| call.json()["id"].to_string()).collect();
    assert_eq!(asked.len(), 4, "{asked:?}");
    // What the service does not have is no failure; the same is asked once, and that was tried again.
    assert_eq!(library.calls().len(), 5);
}

#[tokio::test]
async fn a_required_list_is_whole_or_an_error() {
    let services = |texts: &'static [&'static str]| async { (books().await, reviews(texts).await) };
    let required = || config(json!({"required": true, "pick": "title", "max_elements": 3}));
    let (library, some) = services(&["1", "gone", "2"]).await;
    let answer = json(Services::of(&library, &some).get(required(), "/books/1").await.unwrap()).await;
    assert_eq!(answer["books"], json!(["T1", null, "T2"]));
    assert_eq!(answer["_meta"]["parts"]["books"], json!({"status": "ok", "elements": 3, "missing": 1}));
    let (library, some) = services(&["1", "down"]).await;
    let error = Services::of(&library, &some).get(required(), "/books/1").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let (library, many) = services(&["1", "2", "3", "4"]).await;
    let error = Services::of(&library, &many).get(required(), "/books/1").await.unwrap_err();
    assert_eq!((error.kind, library.calls().len()), (ErrorKind::BadGateway, 0));
}

#[tokio::test]
async fn beyond_so_many_elements_nothing_is_asked_and_that_is_said() {
    let (library, reviews) = (books().await, reviews(&["1", "2", "3", "4", "5"]).await);
    let services = Services::of(&library, &reviews);
    let response = services.get(config(json!({"max_elements": 2})), "/books/1").await.unwrap();
    assert_eq!(response.headers()["cache-control"], "no-store");
    let answer = json(response).await;
    assert_eq!(titles(&answer), [Some("T1"), Some("T2")]);
    assert_eq!(answer["_meta"]["parts"]["books"], json!({"status": "partial", "elements": 5, "left_out": 3}));
    let into = services.get(config(json!({"max_elements": 2, "into": "book", "pick": "title"})), "/books/1").await;
    assert_eq!(
        json(into.unwrap()).await["reviews"],
        json!([{"text": "1", "book": "T1"}, {"text": "2", "book": "T2"}, {"text": "3"}, {"text": "4"}, {"text": "5"}])
    );
}

#[tokio::test]
async fn no_more_are_asked_at_once_than_may_be() {
    let (open, mut opened) = mpsc::unbounded_channel();
    let library = Library::start(move |call| {
        let (send, receive) = mpsc::channel(1);
        open.send((call.json()["id"].as_str().unwrap().to_owned(), send)).unwrap();
        Answer::Stream(receive)
    })
    .await;
    let texts: Vec<_> = (0..12).map(|id| id.to_string()).collect();
    let reviews = reviews(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let services = Services::of(&library, &reviews);
    let config = config(json!({"concurrency": 3, "pick": "id", "timeout": "60s"}));
    let asking = tokio::spawn(async move { json(services.patient(config, "/books/1").await.unwrap()).await });
    let (mut waiting, mut answered) = (Vec::new(), 0);
    while answered < 12 {
        while waiting.len() < (12 - answered).min(3) {
            waiting.push(tokio::time::timeout(Duration::from_secs(30), opened.recv()).await.unwrap().unwrap());
        }
        // A fourth would be here before the next answer is.
        assert_eq!(library.calls().len(), answered + waiting.len());
        let (id, send) = waiting.pop().unwrap();
        send.send(Ok(message("Book", json!({"id": id})))).await.unwrap();
        answered += 1;
    }
    assert_eq!(asking.await.unwrap()["books"], json!(texts));
}

#[tokio::test]
async fn a_batch_is_one_call_and_its_answers_find_their_elements() {
    let library = Library::start(|call| {
        // In an order of its own, with what nobody asked for, and without `gone`.
        let asked = call.json()["tags"].as_array().unwrap().clone();
        let mut found: Vec<_> = asked.into_iter().filter(|id| id != "gone").rev().collect();
        found.insert(0, json!("other"));
        let books: Vec<_> =
            found.iter().map(|id| json!({"id": id, "title": format!("T{}", id.as_str().unwrap())})).collect();
        Answer::Message(message("ListBooksResponse", json!({"books": books})))
    })
    .await;
    let reviews = reviews(&["2", "gone", "1", "", "2"]).await;
    let services = Services::of(&library, &reviews);
    let answer = json(services.get(batch(json!({})), "/books/1").await.unwrap()).await;
    assert_eq!(titles(&answer), [Some("T2"), None, Some("T1"), None, Some("T2")]);
    assert_eq!(answer["_meta"]["parts"]["books"], json!({"status": "ok", "elements": 5, "missing": 2}));
    assert_eq!(library.call().json(), json!({"tags": ["2", "gone", "1"], "pageSize": 9}));
    let part = json!({"into": "title", "pick": "title", "fallback": "none"});
    let answer = json(services.get(batch(part), "/books/1").await.unwrap()).await;
    let titled: Vec<_> = answer["reviews"].as_array().unwrap().iter().map(|review| review["title"].clone()).collect();
    assert_eq!(titled, ["T2", "none", "T1", "none", "T2"]);
    assert!(answer.get("books").is_none());
}

#[tokio::test]
async fn a_batch_that_fails_fails_for_each_and_none_is_asked_for_nothing() {
    let library = Library::start(|_| Answer::Status(14, "down", Vec::new())).await;
    let some = reviews(&["1", "2"]).await;
    let answer =
        json(Services::of(&library, &some).get(batch(json!({"into": "book"})), "/books/1").await.unwrap()).await;
    assert_eq!(answer["reviews"], json!([{"text": "1", "book": null}, {"text": "2", "book": null}]));
    assert_eq!(
        answer["_meta"]["parts"]["books"],
        json!({"status": "failed", "reason": "unavailable", "http_status": 503, "elements": 2, "failed": 2})
    );
    let none = reviews(&[]).await;
    let asked = library.calls().len();
    let answer =
        json(Services::of(&library, &none).get(batch(json!({"required": true})), "/books/1").await.unwrap()).await;
    assert_eq!((&answer["books"], library.calls().len()), (&json!([]), asked));
    let gone = Library::start(|_| Answer::Status(5, "none", Vec::new())).await;
    let answer = json(Services::of(&library, &gone).get(batch(json!({})), "/books/1").await.unwrap()).await;
    assert_eq!(
        (&answer["books"], &answer["_meta"]["parts"]["books"]),
        (&Value::Null, &json!({"status": "skipped", "reason": "no_input", "http_status": 404, "needs": "reviews"}))
    );
}

#[tokio::test]
async fn lists_in_lists_and_lists_of_values_and_lists_by_http() {
    let library = Library::start(|call| match call.path.ends_with("ListBooks") {
        true => Answer::Message(message(
            "ListBooksResponse",
            json!({"books": [{"id": "1", "tags": ["a", "b"]}, {"id": "2"}, {"id": "3", "tags": ["a"]}]}),
        )),
        false => Answer::Message(message("Book", json!({"id": call.json()["id"], "shelf": {"number": 1}}))),
    })
    .await;
    let web =
        upstream(|_| async { http::Response::new("{\"list\": [{\"k\": \"x\"}, {}, {\"k\": 7}]}".to_owned().into()) })
            .await;
    let services = Services::of(&library, &library).and_web(web);
    let config = json!([
        {"part": "all", "call": "library.v1.Library/ListBooks", "request": {}},
        {"part": "tags", "for_each": "{parts.all.books.tags}", "call": GET, "request": {"id": "tag {item}"}, "pick": "id"},
        {"part": "shelves", "for_each": "{parts.all.books}", "call": GET, "request": {"id": "{item.id}"},
         "pick": "shelf", "into": "place"},
        {"part": "again", "for_each": "{parts.all.books}", "call": GET, "request": {"id": "{item.id}{id}"},
         "pick": "id", "into": "second"},
        {"part": "web", "get": "/", "upstream": "web"},
        {"part": "of_web", "for_each": "{parts.web.list}", "call": GET, "request": {"id": "{item.k}"}, "pick": "id"},
    ]);
    let answer = json(services.get(config, "/books/1").await.unwrap()).await;
    assert_eq!(answer["tags"], json!(["tag a", "tag b", "tag a"]));
    let place = json!({"number": 1});
    for (book, id) in answer["all"]["books"].as_array().unwrap().iter().zip(["1", "2", "3"]) {
        assert_eq!((&book["place"], &book["second"]), (&place, &json!(format!("{id}1"))));
    }
    assert_eq!(answer["of_web"], json!(["x", null, "7"]));
    assert_eq!(answer["_meta"]["parts"]["of_web"], json!({"status": "ok", "elements": 3, "missing": 1}));
    assert!(answer.get("shelves").is_none() && answer["_meta"]["parts"]["shelves"]["status"] == "ok");
}

#[test]
fn what_goes_through_a_list_is_checked_when_it_loads() {
    let with = |key: &str, value: Value| {
        let mut config = config(json!({}));
        config[1][key] = value;
        paths(config)
    };
    assert_eq!(with("into", "book".into()), [""; 0]);
    for wrong in
        ["reviews", "{parts.reviews}", "{parts.reviews.reviews.text}", "{parts.books.x}", "{parts.x.y}", "{id}"]
    {
        assert_eq!(with("for_each", wrong.into()), ["[1].for_each"], "{wrong}");
    }
    assert_eq!(with("request", json!({"id": "{item.isbn}"})), ["[1].request.id"]);
    assert_eq!(with("request", json!({"id": "x"})), ["[1].for_each"]);
    assert_eq!(with("into", "text".into()), ["[1].into: library.v1.Review has a field `text` already"]);
    assert_eq!(with("into", "".into()), ["[1].into"]);
    assert_eq!(with("concurrency", 65.into()), ["[1].concurrency"]);
    assert_eq!(with("max_elements", 0.into()), ["[1].max_elements"]);
    assert_eq!(with("flatten", true.into()), ["[1].flatten"]);
    // Nothing can be asked by what is many answers.
    let mut chained = config(json!({}));
    let more = json!({"part": "more", "call": GET, "request": {"id": "{parts.books.id}"}});
    chained.as_array_mut().unwrap().push(more);
    assert_eq!(paths(chained), ["[2].request.id"]);
    let mut twice = config(json!({"into": "book"}));
    let mut other = twice[1].clone();
    other["part"] = "other".into();
    twice.as_array_mut().unwrap().push(other);
    assert_eq!(paths(twice), ["[2].into: `book` is a member of books already"]);
    let mut elsewhere = config(json!({"into": "book"}));
    elsewhere[0] =
        json!({"part": "reviews", "call": "library.v1.Library/ListBooks", "request": {}, "pick": "next_page_token"});
    elsewhere[1]["for_each"] = "{parts.reviews.books}".into();
    elsewhere[1]["request"] = json!({"id": "{item.id}"});
    assert_eq!(paths(elsewhere), ["[1].into: `reviews` picks something else than this list"]);
}

#[test]
fn a_batch_is_checked_when_it_loads() {
    let with = |key: &str, value: Value| {
        let mut config = batch(json!({}));
        config[1][key] = value;
        paths(config)
    };
    assert_eq!(with("pick", "title".into()), [""; 0]);
    assert_eq!(with("pick", "books".into()), ["[1].pick"]);
    assert_eq!(with("batch", json!({"list": "next_page_token", "key": "id"})), ["[1].batch.list"]);
    assert_eq!(with("batch", json!({"list": "books", "key": "shelf"})), ["[1].batch.key"]);
    assert_eq!(with("batch", json!({"list": "books", "key": "isbn"})), ["[1].batch.key"]);
    assert_eq!(with("request", json!({})), ["[1].batch"]);
    assert_eq!(with("request", json!({"page_size": "{item.text}"})), ["[1].request.page_size"]);
    assert_eq!(with("request", json!({"tags": "{item.text}", "page_size": "{item.text}"})), ["[1].batch"]);
    assert_eq!(with("concurrency", 2.into()), ["[1].concurrency"]);
}

/// The answer where calls take as long as `delays` say, in milliseconds, in the order in which they come.
async fn after(delays: Vec<u64>) -> String {
    let delays = std::sync::Mutex::new(delays.into_iter().cycle());
    let library = std::sync::Arc::new(move |call: &crate::library::Call| {
        let (send, receive) = mpsc::channel(1);
        let answer = match call.json()["id"].as_str() {
            None => Ok(message(
                "ListReviewsResponse",
                json!({"reviews": [{"text": "3"}, {"text": "down"}, {"text": "1"}, {"text": "away"}]}),
            )),
            Some("down") => Err((14, "down".to_owned())),
            Some("away") => Err((8, "away".to_owned())),
            Some(id) => Ok(message("Book", json!({"id": id, "title": format!("T{id}")}))),
        };
        let delay = delays.lock().unwrap().next().unwrap_or_default();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            _ = send.send(answer).await;
        });
        Answer::Stream(receive)
    });
    let handler = std::sync::Arc::clone(&library);
    let (library, reviews) =
        (Library::start(move |call| handler(call)).await, Library::start(move |call| library(call)).await);
    let part = |name: &str, id: &str| json!({"part": name, "call": GET, "request": {"id": id}});
    let mut config = config(json!({"concurrency": 2}));
    let mut into = config[1].clone();
    into["part"] = "into".into();
    into["into"] = "book".into();
    let parts =
        [part("a", "a"), part("b", "{parts.a.title}"), part("down", "down"), part("c", "{parts.down.id}"), into];
    config.as_array_mut().unwrap().extend(parts);
    // What is tried again would only take longer.
    text(Services::of(&library, &reviews).patient(config, "/books/1").await.unwrap()).await
}

#[test]
fn an_answer_does_not_depend_on_what_comes_first() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let expected = runtime.block_on(after(vec![0]));
    assert!(expected.contains(r#""into":{"status":"partial","reason":"unavailable""#), "{expected}");
    assert!(expected.contains(r#""c":{"status":"skipped""#), "{expected}");
    let mut runner = TestRunner::deterministic();
    let delays = proptest::collection::vec(0..20_u64, 1..16);
    for _ in 0..24 {
        let delays = delays.new_tree(&mut runner).unwrap().current();
        assert_eq!(runtime.block_on(after(delays.clone())), expected, "{delays:?}");
    }
}
