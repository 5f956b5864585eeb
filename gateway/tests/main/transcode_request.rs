//! How a request message is made of path, query, body and headers, and what is refused.

use gateway::{
    action::transcode::{Config, Transcode},
    descriptors,
    error::{Error, ErrorKind},
    worker::UpstreamId,
};
use http::Method;
use serde_json::json;

use crate::library::{Library, Route, pool, violations};

async fn refused(route: &Route, body: &str) -> Error {
    route.post(body.to_owned()).await.err().unwrap_or_else(|| panic!("{body} was taken"))
}

#[tokio::test]
async fn path_variables_fill_fields_and_nested_fields() {
    let library = Library::answering("Book", json!({})).await;
    let route = Route::new(&library, Method::GET, "/shelves/{shelf.number}/books/{id}");
    route.send("/", &[("shelf.number", "7"), ("id", "a/b ü")], &[], "").await.unwrap();
    assert_eq!(library.call().path, "/library.v1.Library/GetBook");
    assert_eq!(library.call().json(), json!({"id": "a/b ü", "shelf": {"number": 7}}));
}

#[tokio::test]
async fn path_variables_are_parsed_by_the_kind_of_their_field() {
    for (template, value, expected) in [
        ("/echo/int/{int32}", "-5", json!({"int32": -5})),
        ("/echo/bool/{bool}", "true", json!({"bool": true})),
        ("/echo/bytes/{bytes}", "-_8", json!({"bytes": "+/8="})),
        ("/echo/genre/{genre}", "ESSAY", json!({"genre": "ESSAY"})),
        ("/echo/genre/{genre}", "1", json!({"genre": "NOVEL"})),
        ("/echo/time/{timestamp}", "2026-11-21T10:00:00Z", json!({"timestamp": "2026-11-21T10:00:00Z"})),
        ("/echo/wrapped/{wrapped_int64}", "42", json!({"wrappedInt64": "42"})),
    ] {
        let library = Library::echoing().await;
        let name = template.split(['{', '}']).nth(1).unwrap();
        let route = Route::new(&library, Method::GET, template);
        route.send("/", &[(name, value)], &[], "").await.unwrap_or_else(|error| panic!("{template}: {error:?}"));
        assert_eq!(library.call().json(), expected, "{template}");
    }
}

#[tokio::test]
async fn a_variable_of_the_wrong_kind_is_named() {
    let library = Library::echoing().await;
    let route = Route::new(&library, Method::GET, "/echo/int/{int32}");
    let error = route.send("/", &[("int32", "2147483648")], &[], "").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(violations(&error), [("int32", "must be a whole number of 32 bits")]);
    assert!(library.calls().is_empty());
}

#[tokio::test]
async fn query_parameters_may_be_nested_repeated_and_of_either_spelling() {
    let library = Library::answering("ListBooksResponse", json!({})).await;
    let route = Route::new(&library, Method::GET, "/books");
    let uri = "/books?pageSize=5&tags=a&tags=b+c&shelf.number=3&genre=NOVEL&since=2026-11-21T10:00:00%2B01:00";
    route.send(uri, &[], &[], "").await.unwrap();
    assert_eq!(
        library.call().json(),
        json!({"pageSize": 5, "tags": ["a", "b c"], "shelf": {"number": 3}, "genre": "NOVEL",
               "since": "2026-11-21T09:00:00Z"})
    );
    route.send("/books?page_size=6", &[], &[], "").await.unwrap();
    assert_eq!(library.calls()[1].json(), json!({"pageSize": 6}));
}

#[tokio::test]
async fn bad_query_parameters_are_all_named() {
    let library = Library::answering("ListBooksResponse", json!({})).await;
    let route = Route::new(&library, Method::GET, "/books");
    let uri = "/books?pageSize=many&colour=red&shelf=3&page_size=2&shelf.depth=1&x=%ff";
    let error = route.send(uri, &[], &[], "").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(
        violations(&error),
        [
            ("pageSize", "must be a whole number of 32 bits"),
            ("colour", "is not a known parameter"),
            ("shelf", "is a message, which can't be given here"),
            ("page_size", "is given twice"),
            ("shelf.depth", "is not a known parameter"),
            ("x", "is not UTF-8"),
        ]
    );
}

#[tokio::test]
async fn what_the_path_or_the_body_says_is_not_asked_of_the_query() {
    let library = Library::answering("Book", json!({})).await;
    let by_path = Route::new(&library, Method::GET, "/books/{id}");
    let error = by_path.send("/books/1?id=2", &[("id", "1")], &[], "").await.unwrap_err();
    assert_eq!(violations(&error), [("id", "is given by the path")]);
    let by_body = Route::new(&library, Method::POST, "/books");
    let error = by_body.send("/books?book.title=x", &[], &[], "{}").await.unwrap_err();
    assert_eq!(violations(&error), [("book.title", "is given by the body")]);
    by_body.send("/books?requestId=7", &[], &[], r#"{"title": "x"}"#).await.unwrap();
    assert_eq!(library.call().json(), json!({"book": {"title": "x"}, "requestId": "7"}));
    let all_in_body = Route::new(&library, Method::POST, "/books/{id}:lend");
    let error = all_in_body.send("/?to=me", &[("id", "1")], &[], "{}").await.unwrap_err();
    assert_eq!(violations(&error), [("to", "is not a known parameter")]);
}

#[tokio::test]
async fn a_variable_wins_over_the_body_which_may_only_repeat_it() {
    let library = Library::answering("Everything", json!({})).await;
    let route = Route::new(&library, Method::POST, "/books/{id}:lend");
    for body in ["", "{}", r#"{"id": "1"}"#, r#"{"id": ""}"#] {
        route.send("/", &[("id", "1")], &[], body).await.unwrap();
        assert_eq!(library.calls().last().unwrap().json(), json!({"id": "1"}), "{body}");
    }
    let error = route.send("/", &[("id", "1")], &[], r#"{"id": "2"}"#).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(violations(&error), [("id", "is another in the body than in the path")]);
}

#[tokio::test]
async fn every_fault_of_a_body_is_named_by_its_path() {
    let library = Library::echoing().await;
    let route = Route::new(&library, Method::POST, "/echo");
    let body = r#"{
        "int32": "x", "colour": 1, "nested": {"bool": "true", "list": [{}, {"genre": "POEM", "what": []}]},
        "counts": {"a": "b", "c": null}, "byNumber": {"x": {}}, "left": "a", "right": 1, "numbers": [1, null, 1.5],
        "int64": 9223372036854775808, "uint32": -1, "bytes": "*", "timestamp": "yesterday", "text": 5, "bool": {},
        "struct": [], "wrappedInt64": "many", "int64": 1, "by_bool": {"maybe": ""}
    }"#;
    let error = refused(&route, body).await;
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert_eq!(
        violations(&error),
        [
            ("int32", "must be a whole number of 32 bits"),
            ("colour", "is not a known field"),
            ("nested.bool", "must be true or false"),
            ("nested.list[1].genre", "must be one of GENRE_UNSPECIFIED, NOVEL, ESSAY"),
            ("nested.list[1].what", "is not a known field"),
            ("counts[\"a\"]", "must be a whole number of 32 bits"),
            ("counts[\"c\"]", "must not be null"),
            ("byNumber[\"x\"]", "as a key must be a whole number of 64 bits"),
            ("right", "can't be given beside `left`"),
            ("numbers[1]", "must not be null"),
            ("numbers[2]", "must be a whole number of 64 bits"),
            ("int64", "must be a whole number of 64 bits"),
            ("uint32", "must be a whole number of 32 bits, 0 or more"),
            ("bytes", "must be base64"),
            ("timestamp", "must be a time such as 2026-11-21T10:00:00Z"),
            ("text", "must be a string"),
            ("bool", "must be true or false"),
            ("struct", "must be an object"),
            ("wrappedInt64", "must be a whole number of 64 bits"),
            ("int64", "is given twice"),
            ("by_bool[\"maybe\"]", "as a key must be true or false"),
        ]
    );
    assert!(library.calls().is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_the_json_of_a_message_is_refused() {
    let library = Library::echoing().await;
    let route = Route::new(&library, Method::POST, "/echo");
    for body in
        ["{} x", "{}{}", "{", "{\"text\": 1e999}", "{'text': 1}", "{\"text\": \"\\ud800\"}", "nul", "\u{feff}{}"]
    {
        let error = refused(&route, body).await;
        assert_eq!(error.kind, ErrorKind::BadRequest, "{body}");
        assert!(error.detail.starts_with("the body is not valid JSON"), "{body}: {}", error.detail);
    }
    for body in ["[]", "1", "\"x\"", "true", "null"] {
        assert_eq!(violations(&refused(&route, body).await), [("", "must be an object")], "{body}");
    }
    let deep = format!("{}{}", "{\"nested\":".repeat(64) + "{}", "}".repeat(64));
    assert!(refused(&route, &deep).await.detail.contains("nested deeper than 64"));
    let error = route.post(&b"{\"text\": \"\xff\"}"[..]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
}

#[tokio::test]
async fn a_flood_of_faults_is_cut_short() {
    let library = Library::echoing().await;
    let route = Route::new(&library, Method::POST, "/echo");
    let many: Vec<_> = (0..10_000).map(|index| format!("\"unknown{index}\": 1")).collect();
    assert_eq!(refused(&route, &format!("{{{}}}", many.join(","))).await.violations.len(), 100);
    let error = refused(&route, &format!("{{\"{}\": 1}}", "é".repeat(10_000))).await;
    assert!(error.violations[0].field.chars().count() < 100);
}

#[tokio::test]
async fn a_body_must_be_json_by_its_type_and_of_a_bounded_size() {
    let library = Library::echoing().await;
    let route = Route::new(&library, Method::POST, "/echo");
    let send = async |content_type, body: String| route.send("/", &[], &[("content-type", content_type)], body).await;
    assert_eq!(send("text/plain", "{}".into()).await.unwrap_err().kind, ErrorKind::UnsupportedMediaType);
    assert_eq!(send("application/xml", "{}".into()).await.unwrap_err().kind, ErrorKind::UnsupportedMediaType);
    send("Application/JSON; charset=utf-8", "{}".into()).await.unwrap();
    let large = format!("{{\"text\": \"{}\"}}", "x".repeat(1024 * 1024));
    assert_eq!(send("application/json", large).await.unwrap_err().kind, ErrorKind::BodyTooLarge);
}

#[tokio::test]
async fn a_request_without_a_body_rule_takes_no_body() {
    let library = Library::answering("Book", json!({})).await;
    let route = Route::new(&library, Method::GET, "/books/{id}");
    let error = route.send("/", &[("id", "1")], &[], "{}").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
}

#[tokio::test]
async fn if_match_reaches_the_field_etag() {
    let library = Library::answering("Everything", json!({})).await;
    let route = Route::new(&library, Method::DELETE, "/books/{id}");
    let id = [("id", "1")];
    route.send("/", &id, &[("if-match", "\"7\"")], "").await.unwrap();
    assert_eq!(library.calls()[0].json(), json!({"id": "1", "etag": "7"}));
    route.send("/", &id, &[("if-match", "*")], "").await.unwrap();
    assert_eq!(library.calls()[1].json(), json!({"id": "1"}));
    let error = route.send("/", &id, &[("if-match", "W/\"7\"")], "").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PreconditionFailed);
    let error = route.send("/?etag=8", &id, &[("if-match", "\"7\"")], "").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
    // A write that can't be made conditional must not be made unconditionally.
    let lend = Route::new(&library, Method::POST, "/books/{id}:lend");
    assert_eq!(lend.send("/", &id, &[("if-match", "\"7\"")], "").await.unwrap_err().kind, ErrorKind::BadRequest);
    assert_eq!(library.calls().len(), 2);
}

#[tokio::test]
async fn a_patch_without_a_mask_changes_what_its_body_has() {
    let library = Library::answering("Book", json!({})).await;
    let route = Route::new(&library, Method::PATCH, "/books/{book.id}");
    let id = [("book.id", "1")];
    let body = r#"{"title": "x", "pages": null, "shelf": {"number": 2}, "id": "1"}"#;
    route.send("/", &id, &[], body).await.unwrap();
    assert_eq!(
        library.calls()[0].json(),
        json!({"book": {"id": "1", "title": "x", "shelf": {"number": 2}}, "updateMask": "pages,shelf.number,title"})
    );
    route.send("/", &id, &[], r#"{"shelf": {}, "tags": ["a"]}"#).await.unwrap();
    assert_eq!(library.calls()[1].json()["updateMask"], json!("shelf,tags"));
    route.send("/?updateMask=tags,shelf.number", &id, &[], body).await.unwrap();
    assert_eq!(library.calls()[2].json()["updateMask"], json!("tags,shelf.number"));
}

#[tokio::test]
async fn metadata_is_what_the_list_allows_and_what_the_gateway_says() {
    let library = Library::answering("Book", json!({})).await;
    let route = Route::new(&library, Method::GET, "/books/{id}");
    let headers = [
        ("idempotency-key", "k"),
        ("prefer", "wait=5"),
        ("cookie", "secret"),
        ("x-other", "1"),
        ("turnpike-principal", "forged"),
        ("x-request-id", "forged"),
    ];
    route.send("/", &[("id", "1")], &headers, "").await.unwrap();
    let metadata = library.call().metadata;
    assert_eq!(metadata["idempotency-key"], "k");
    assert_eq!(metadata["prefer"], "wait=5");
    assert_eq!(metadata["x-request-id"], "request-1");
    assert!(metadata.contains_key("traceparent"));
    assert!(metadata.contains_key("grpc-timeout"));
    for absent in ["cookie", "x-other", "turnpike-principal"] {
        assert!(!metadata.contains_key(absent), "{absent}");
    }
    let config = json!({"forward_headers": ["x-other"]});
    let route = Route::configured(&library, Method::GET, "/books/{id}", config);
    route.send("/", &[("id", "1")], &headers, "").await.unwrap();
    let metadata = &library.calls()[1].metadata;
    assert_eq!(metadata["x-other"], "1");
    assert!(!metadata.contains_key("prefer"));
}

#[test]
fn what_can_not_be_transcoded_is_refused_when_it_loads() {
    let refused = |service: &str, template: &str, config: serde_json::Value| {
        let bindings = descriptors::bindings(&pool(), service).unwrap();
        let binding = bindings.iter().find(|binding| binding.template == template).unwrap();
        let config: Config = serde_json::from_value(config).unwrap();
        let errors = Transcode::new(binding, UpstreamId(0), &config).err().unwrap();
        errors.into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("\n")
    };
    assert!(refused("library.v1.Wrong", "/books/{isbn}", json!({})).contains("{isbn}: "));
    assert!(refused("library.v1.Wrong", "/books/{id}", json!({})).contains("no field `isbn`"));
    let response = json!({"response": {"status": 404, "location": "/books/{isbn}"}, "forward_headers": ["te"]});
    let errors = refused("library.v1.Library", "/books/{id}", response);
    for path in ["response.status", "response.location", "forward_headers[0]"] {
        assert!(errors.contains(path), "{errors}");
    }
    assert!(serde_json::from_value::<Config>(json!({"respond": {}})).is_err());
}

#[test]
fn annotations_are_read_with_their_additional_bindings() {
    let bindings = descriptors::bindings(&pool(), "library.v1.Library").unwrap();
    let of_get_book: Vec<_> = bindings.iter().filter(|binding| binding.method.name() == "GetBook").collect();
    assert_eq!(of_get_book.len(), 4);
    assert_eq!(of_get_book[2].response_body.as_deref(), Some("title"));
    assert!(bindings.iter().all(|binding| binding.method.name() != "Hidden"));
    assert!(descriptors::bindings(&pool(), "library.v1.Nothing").is_err());
    assert!(descriptors::decode(b"\xff").is_err());
}
