//! Rules of `google.api.http`: every example in the public comments of http.proto and httpbody.proto, the whole way from a
//! request to a call; the grammar beyond them; and what of a rule is refused when it loads.

use gateway::{
    action::transcode::{Config, Transcode},
    descriptors::{self, rule::Written},
    worker::UpstreamId,
};
use serde_json::{Value, json};

use crate::{
    library::{Answer, Library, descriptors_file, pool},
    running::Running,
};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A gateway with the routes of one service of `messaging.v1`.
pub async fn serving(library: &Library, service: &str, more: &str) -> (Running, tempfile::TempPath) {
    let descriptors = descriptors_file();
    let config = format!(
        "upstreams:\n  library: {{ endpoints: ['{}'], protocol: grpc, descriptors: '{}' }}\n\
         routes:\n  - grpc: messaging.v1.{service}\n    upstream: library\n{more}",
        library.address,
        descriptors.display(),
    );
    (Running::start(&config).await, descriptors)
}

/// What a service is asked when these requests come, each with its method of the service.
async fn asked(service: &str, more: &str, requests: &[(&str, &str, &str, &str)]) -> Vec<Value> {
    let library = Library::start(|_| Answer::Raw(bytes::Bytes::new())).await;
    let (gateway, _descriptors) = serving(&library, service, more).await;
    for (method, path, body, _) in requests {
        let headers: &[_] = if body.is_empty() { &[] } else { &[JSON] };
        let answer = gateway.send(method, path, headers, body).await;
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
    }
    gateway.stop().await;
    let calls = library.calls();
    let expected: Vec<_> = requests.iter().map(|(.., call)| format!("/messaging.v1.{service}/{call}")).collect();
    assert_eq!(calls.iter().map(|call| call.path.clone()).collect::<Vec<_>>(), expected);
    calls.iter().map(crate::library::Call::json).collect()
}

#[tokio::test]
async fn a_name_of_several_segments_fills_a_field() {
    let asked = asked("ByName", "", &[("GET", "/v1/messages/123456", "", "GetMessage")]).await;
    assert_eq!(asked, [json!({"name": "messages/123456"})]);
}

#[tokio::test]
async fn what_the_path_does_not_say_comes_from_the_query() {
    let path = "/v1/messages/123456?revision=2&sub.subfield=foo";
    let asked = asked("ByQuery", "", &[("GET", path, "", "GetMessage")]).await;
    assert_eq!(asked, [json!({"messageId": "123456", "revision": "2", "sub": {"subfield": "foo"}})]);
}

#[tokio::test]
async fn a_body_is_a_field() {
    let requests = [
        ("PATCH", "/v1/messages/123456", r#"{ "text": "Hi!" }"#, "UpdateMessage"),
        ("PUT", "/v1/messages/123456", r#"{ "text": "Hi!" }"#, "PutMessage"),
    ];
    let expected = json!({"messageId": "123456", "message": {"text": "Hi!"}});
    assert_eq!(asked("ByBody", "", &requests).await, [expected.clone(), expected]);
}

#[tokio::test]
async fn a_body_is_all_that_the_path_is_not() {
    let request = ("PATCH", "/v1/messages/123456", r#"{ "text": "Hi!" }"#, "UpdateMessage");
    assert_eq!(asked("ByWholeBody", "", &[request]).await, [json!({"messageId": "123456", "text": "Hi!"})]);
}

#[tokio::test]
async fn a_method_has_several_paths() {
    let requests =
        [("GET", "/v1/messages/123456", "", "GetMessage"), ("GET", "/v1/users/me/messages/123456", "", "GetMessage")];
    let expected = [json!({"messageId": "123456"}), json!({"userId": "me", "messageId": "123456"})];
    assert_eq!(asked("ByTwoPaths", "", &requests).await, expected);
}

#[tokio::test]
async fn a_rule_stands_in_the_configuration_or_in_a_service_configuration() {
    let requests = [("GET", "/v1/messages/123456/foo", "", "GetMessage")];
    let expected = [json!({"messageId": "123456", "sub": {"subfield": "foo"}})];
    let rule = "{selector: messaging.v1.ByConfiguration.GetMessage, get: '/v1/messages/{message_id}/{sub.subfield}'}";
    assert_eq!(asked("ByConfiguration", &format!("    http_rules: [{rule}]\n"), &requests).await, expected);
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let other = "{selector: messaging.v1.ByQuery.GetMessage, get: /v2}";
    std::fs::write(&file, format!("type: google.api.Service\nhttp:\n  rules:\n  - {other}\n  - {rule}\n")).unwrap();
    let more = format!("    http_rules_file: '{}'\n", file.display());
    assert_eq!(asked("ByConfiguration", &more, &requests).await, expected);
    // It goes before an annotation.
    let rule = "{selector: messaging.v1.ByQuery.GetMessage, get: '/v3/{message_id}'}";
    let request = [("GET", "/v3/1", "", "GetMessage")];
    assert_eq!(asked("ByQuery", &format!("    http_rules: [{rule}]\n"), &request).await, [json!({"messageId": "1"})]);
}

#[tokio::test]
async fn a_method_of_http_may_be_any_and_any_other() {
    let requests = [
        ("GET", "/v1/any/1", "", "Get"),
        ("PURGE", "/v1/any/2", "", "Get"),
        ("REPORT", "/v1/messages/3", "", "Report"),
    ];
    let asked = asked("ByAnyMethod", "", &requests).await;
    assert_eq!(asked, [json!({"messageId": "1"}), json!({"messageId": "2"}), json!({"messageId": "3"})]);
}

#[tokio::test]
async fn paths_have_all_the_shapes_of_the_grammar() {
    let requests = [
        ("GET", "/v1/shelves/a%20b/books/c", "", "Get"),
        ("GET", "/v1/files/a/b.c/:content", "", "Get"),
        ("GET", "/v1/files:content", "", "Get"),
        ("GET", "/v1/at/2026-11-21T10%3A00:00Z", "", "Get"),
        ("GET", "/v1/any/thing/of/x%3Acontent", "", "Get"),
        ("GET", "/v1/plain/%2B+%F0%9F%98%80", "", "Get"),
        ("GET", "/v1/caf%c3%a9/x", "", "Get"),
        ("POST", "/v1/list?name=y", "[1, 2]", "Get"),
    ];
    let expected = [
        json!({"name": "shelves/a b/books/c"}),
        json!({"name": "files/a/b.c/"}),
        json!({"name": "files"}),
        json!({"at": "2026-11-21T10:00:00Z"}),
        json!({"name": "x:content"}),
        json!({"name": "++\u{1f600}"}),
        json!({"name": "x"}),
        json!({"name": "y", "numbers": [1, 2]}),
    ];
    assert_eq!(asked("Shapes", "", &requests).await, expected);
}

#[tokio::test]
async fn a_mask_is_made_of_what_the_body_says_however_deep() {
    let library = Library::start(|_| Answer::Raw(bytes::Bytes::new())).await;
    let (gateway, _descriptors) = serving(&library, "Masks", "").await;
    for (body, mask) in [
        (r#"{"commonName": "oak"}"#, "commonName"),
        (
            r#"{"common_name": null, "leftBranch": {"left_branch": {"common_name": "x", "id": ""}}}"#,
            "commonName,leftBranch.leftBranch.commonName,leftBranch.leftBranch.id",
        ),
        (
            r#"{"leftBranch": {"leftBranch": {}}, "labels": {"a": "b"}, "fruits": [{"id": "1"}], "height": 3}"#,
            "fruits,height,labels,leftBranch.leftBranch",
        ),
        (r#"{"leftBranch": null, "plantedAt": "2026-11-21T10:00:00Z", "words": null}"#, "leftBranch,plantedAt,words"),
        (r#"{"id": "1", "leftBranch": {"id": "2"}}"#, "leftBranch.id"),
    ] {
        let answer = gateway.send("PATCH", "/v1/trees/1", &[JSON], body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        assert_eq!(library.calls().last().unwrap().json()["updateMask"], mask, "{body}");
    }
    let answer = gateway.send("PATCH", "/v1/trees/1?updateMask=labels", &[JSON], r#"{"commonName": "oak"}"#).await;
    assert_eq!(answer.status, 200);
    assert_eq!(library.calls().last().unwrap().json()["updateMask"], "labels");
    gateway.stop().await;
}

/// What is wrong with a rule for a method.
fn faults(selector: &str, rule: Value) -> String {
    let mut written: Written = serde_json::from_value(rule).unwrap();
    written.selector = Some(selector.to_owned());
    let rule = match written.rule() {
        Ok(rule) => rule,
        Err(message) => return message,
    };
    let (service, _) = selector.rsplit_once('.').unwrap();
    match descriptors::by_rules(&pool(), service, &[rule]) {
        Err(messages) => messages.join("\n"),
        Ok(bindings) => {
            let of_rule = bindings.iter().filter(|binding| binding.method.full_name() == selector);
            let errors = of_rule.filter_map(|binding| Transcode::new(binding, UpstreamId(0), &Config::default()).err());
            errors.flatten().map(|error| error.message).collect::<Vec<_>>().join("\n")
        }
    }
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_by_name() {
    const LIST: &str = "library.v1.Library.ListBooks";
    const UPDATE: &str = "library.v1.Library.UpdateBook";
    for (selector, rule, said) in [
        (LIST, json!({}), "has no path"),
        (LIST, json!({"get": "/a", "post": "/a"}), "more than one path"),
        (LIST, json!({"get": "a"}), "begins with a slash"),
        (LIST, json!({"get": "/{a"}), "a brace is not closed"),
        (LIST, json!({"get": "/{page_size}/{page_size}"}), "the variable `page_size` is there twice"),
        (LIST, json!({"get": "/{page_size}/{pageSize}"}), "{pageSize}: is the same field as {page_size}"),
        (LIST, json!({"get": "/{rest=**}/x"}), "`**` must be the last segment"),
        (LIST, json!({"get": "/{isbn}"}), "{isbn}: library.v1.ListBooksRequest has no field `isbn`"),
        (LIST, json!({"get": "/{shelf.depth}"}), "library.v1.Shelf has no field `depth`"),
        (LIST, json!({"get": "/{tags}"}), "`tags` of library.v1.ListBooksRequest is repeated, which a path can't hold"),
        (LIST, json!({"get": "/{shelf}"}), "`shelf` of library.v1.ListBooksRequest is a message, which a path can't"),
        (LIST, json!({"get": "/{genre.x}"}), "`genre` of library.v1.ListBooksRequest is not a message"),
        (LIST, json!({"get": "/{since.seconds}"}), "is a value, not a message with fields"),
        (LIST, json!({"get": "/{tags.x}"}), "`tags` of library.v1.ListBooksRequest is repeated: nothing in it"),
        (LIST, json!({"get": "/a", "body": "*"}), "GET can't have a body"),
        (LIST, json!({"post": "/a", "body": "isbn"}), "body: library.v1.ListBooksRequest has no field `isbn`"),
        (UPDATE, json!({"post": "/a", "body": "book.shelf"}), "must be a field of library.v1.UpdateBookRequest itself"),
        (UPDATE, json!({"post": "/{etag}", "body": "etag"}), "{etag}: is the body as well"),
        (UPDATE, json!({"get": "/a", "response_body": "isbn"}), "response_body: library.v1.Book has no field `isbn`"),
        (
            UPDATE,
            json!({"get": "/a", "response_body": "shelf.number"}),
            "response_body: `shelf.number` must be a field",
        ),
        (LIST, json!({"custom": {"kind": "purge", "path": "/a"}}), "`purge` is not a method of HTTP"),
        (
            LIST,
            json!({"get": "/a", "additional_bindings": [{"get": "/b", "additional_bindings": [{"get": "/c"}]}]}),
            "additional_bindings[0]: can't have `additional_bindings` of its own",
        ),
        (
            LIST,
            json!({"get": "/a", "additional_bindings": [{"get": "/b"}, {"selector": "x", "get": "/c"}]}),
            "additional_bindings[1]: can't have a `selector`",
        ),
        ("messaging.v1.Streams.Collect", json!({"post": "/a"}), "streams requests, so its rule needs a body"),
        ("library.v1.Library.Nothing", json!({"get": "/a"}), "names no method of library.v1.Library"),
    ] {
        let found = faults(selector, rule.clone());
        assert!(found.contains(said), "{rule}: {found}");
    }
    assert_eq!(faults(LIST, json!({"get": "/{shelf.number}/{since}/{genre}"})), "");
}
