//! Which route a request takes, and what is said where there is none.

use crate::running::{Running, echo, passing_on};

const SHOP: &str = "
routes:
  - { match: { path: '/things/{id}', method: GET }, respond: { status: 200, body: one } }
  - { match: { path: '/things/{id}', method: [PUT, DELETE] }, respond: { status: 204 } }
  - { match: { path: '/things/new', method: GET }, respond: { status: 200, body: form } }
  - { match: { path: '/things/{id}', method: GET, host: other.test }, respond: { status: 200, body: other } }
  - { match: { path: '/things/{id}', method: GET, headers: { x-beta: '' }, priority: 1 }, respond: { status: 200, body: beta } }
  - { match: { path: '/old/{id}' }, redirect: { to: '/things/{id}' } }
";

#[tokio::test]
async fn the_most_exact_route_is_taken() {
    let gateway = Running::start(SHOP).await;
    assert_eq!(gateway.get("/things/42").await.body, "one");
    assert_eq!(gateway.get("/things/new").await.body, "form");
    assert_eq!(gateway.get("//things/./x/../42").await.body, "one");
    assert_eq!(gateway.get("/%74hings/42").await.body, "one");
    assert_eq!(gateway.send("GET", "/things/42", &[("x-beta", "1")], "").await.body, "beta");
    let old = gateway.get("/old/42?a=b").await;
    assert_eq!((old.status.as_u16(), old.header("location")), (308, "/things/42?a=b".to_owned()));
    gateway.stop().await;
}

const FIELDS: &str = "
routes:
  - { match: { path: /a }, respond: { status: 200, body: any } }
  - { match: { path: /a, host: [a.test, '*.a.test'] }, respond: { status: 200, body: host } }
  - { match: { path: /a, host: b.a.test, headers: { x-version: '2' } }, respond: { status: 200, body: host and header } }
  - { match: { path: /a, host: c.test, query: { v: '1' } }, respond: { status: 200, body: query } }
  - { match: { path: /a, host: c.test, query: { v: { prefix: '1' } } }, respond: { status: 200, body: prefix } }
  - { match: { path: /a, host: c.test, query: { v: { present: false } } }, respond: { status: 200, body: no query } }
";

#[tokio::test]
async fn host_headers_and_query_tell_routes_of_one_path_apart() {
    let gateway = Running::start(FIELDS).await;
    let ask = async |host: &str, target: &str, fields: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{fields}connection: close\r\n\r\n");
        let answer = gateway.raw(request.as_bytes()).await;
        answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
    };
    for (host, target, fields, body) in [
        ("other.test", "/a", "", "any"),
        ("A.test:80", "/a", "", "host"),
        ("x.a.test.", "/a", "", "host"),
        ("b.a.test", "/a", "x-version: 2\r\n", "host and header"),
        ("b.a.test", "/a", "x-version: 2\r\nx-version: 2\r\n", "host"),
        ("b.a.test", "/a", "x-version: 3\r\n", "host"),
        ("c.test", "/a?v=1", "", "query"),
        ("c.test", "/a?x&%76=%31", "", "query"),
        ("c.test", "/a?v=12", "", "prefix"),
        ("c.test", "/a?v=2", "", "any"),
        ("c.test", "/a", "", "no query"),
        // RFC 9112, section 3.2.2: the target goes before the header.
        ("other.test", "http://c.test/a?v=1", "", "query"),
    ] {
        assert_eq!(ask(host, target, fields).await, body, "{host} {target} {fields}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_known_one_with_another_method_405() {
    let gateway = Running::start(SHOP).await;
    let unknown = gateway.get("/nothing").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.problem()["instance"], "/nothing");
    let other = gateway.send("POST", "/things/42", &[], "").await;
    assert_eq!(other.status, 405);
    assert_eq!(other.header("allow"), "DELETE, GET, HEAD, OPTIONS, PUT");
    assert_eq!(other.problem()["title"], "The method is not allowed here");
    gateway.stop().await;
}

#[tokio::test]
async fn head_and_options_need_no_route_of_their_own() {
    let gateway = Running::start(SHOP).await;
    let head = gateway.send("HEAD", "/things/42", &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.as_str(), head.header("content-length").as_str()), (200, "", "3"));
    let options = gateway.send("OPTIONS", "/things/42", &[], "").await;
    assert_eq!(options.status, 204);
    assert_eq!(options.header("allow"), "DELETE, GET, HEAD, OPTIONS, PUT");
    assert_eq!(gateway.send("OPTIONS", "/nothing", &[], "").await.status, 404);
    gateway.stop().await;
}

#[tokio::test]
async fn a_path_with_two_readings_is_refused() {
    let gateway = Running::start(SHOP).await;
    for path in [
        "/things/a%2fb",
        "/things/%2F..%2fadmin",
        "/things/%00",
        "/things/%5c",
        "/things/%0d%0a",
        "/things/%zz",
        "/things/%",
        "/things/..;/42",
        "/things/%2e%2e;x=1/42",
        "/things/%c0%ae%c0%ae",
        "/things/%ff",
    ] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.status, 400, "{path}");
        answer.problem();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_matched_is_what_is_forwarded() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    for (target, forwarded) in [
        ("/a/../b//c/%7Ed%c3%a9?x=%2f..", "/b/c/~d%C3%A9?x=%2f.."),
        ("//other.test/a", "/other.test/a"),
        ("/a/", "/a/"),
        ("/a/%2e%2e/%2E/b", "/b"),
        ("/../../etc/passwd", "/etc/passwd"),
        ("/a%252fb/%252e%252e", "/a%252fb/%252e%252e"),
        ("/a;v=1/b;/c", "/a;v=1/b;/c"),
        ("/a?/../b//c?d", "/a?/../b//c?d"),
        ("http://gateway.test//a/../b", "/b"),
        ("http://gateway.test", "/"),
        ("/a%3fb%23c", "/a%3Fb%23c"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: gateway.test\r\nconnection: close\r\n\r\n");
        let answer = gateway.raw(request.as_bytes()).await;
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let told: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{target}: {answer}"));
        assert_eq!(told["path"], forwarded, "{target}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_grpc_caller_is_refused_in_its_own_way() {
    let gateway = Running::start(SHOP).await;
    let answer = gateway.send("POST", "/no.Such/Method", &[("content-type", "application/grpc")], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status").as_str()), (200, "12"));
    gateway.stop().await;
}
