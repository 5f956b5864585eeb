//! What pages of other origins may do, and what browsers are told beside.

use gateway::Body;
use http::{HeaderValue, Response};

use crate::{
    proxy::serve,
    running::{Answer, Running, echo, passing_on},
};

const ROUTES: &str = "routes:\n\
    - {match: {path: /any}, respond: {status: 200, body: ok}}\n\
    - {match: {path: /own, method: [GET, PUT]}, respond: {status: 200}, \
       cors: {origins: ['https://partner.test'], methods: [GET, PUT], max_age: 60s}}\n\
    - {match: {path: /own, method: DELETE}, respond: {status: 200}, cors: false}\n";

async fn call(gateway: &Running, path: &str, origin: &str) -> Answer {
    gateway.send("GET", path, &[("origin", origin)], "").await
}

async fn preflight(gateway: &Running, path: &str, origin: &str, method: &str) -> Answer {
    let headers = [("origin", origin), ("access-control-request-method", method)];
    gateway.send("OPTIONS", path, &headers, "").await
}

fn allowed(answer: &Answer) -> String {
    answer.header("access-control-allow-origin")
}

#[tokio::test]
async fn pages_below_a_name_may_call_with_cookies_and_those_beside_it_may_not() {
    let cors = "cors: {origins: ['https://*.app.test', 'http://localhost:3000'], credentials: true}\n";
    let gateway = Running::start(&format!("{cors}{ROUTES}")).await;
    for origin in ["https://a.app.test", "https://b.a.app.test", "http://localhost:3000"] {
        let answer = call(&gateway, "/any", origin).await;
        assert_eq!(allowed(&answer), origin);
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert_eq!(answer.header("vary"), "origin");
    }
    for origin in ["https://app.test", "https://evilapp.test", "http://a.app.test", "null", "https://a.app.test.evil"] {
        for answer in [call(&gateway, "/any", origin).await, preflight(&gateway, "/any", origin, "PUT").await] {
            assert!(answer.status.is_success());
            assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")), "{answer:?}");
            assert_eq!(answer.header("vary"), "origin");
        }
    }
    assert_eq!(gateway.get("/any").await.header("vary"), "origin", "a cache must not give this to a page");
    gateway.stop().await;
}

#[tokio::test]
async fn where_anybody_may_call_one_answer_is_for_all() {
    let gateway = Running::start(&format!("cors: {{origins: ['*']}}\n{ROUTES}")).await;
    for answer in [gateway.get("/any").await, call(&gateway, "/any", "https://x.test").await] {
        assert_eq!((allowed(&answer).as_str(), answer.header("vary").as_str()), ("*", ""));
        assert_eq!(answer.header("access-control-allow-credentials"), "");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_preflight_of_what_there_is_not_lets_the_page_read_why() {
    let gateway = Running::start(&format!("cors: {{origins: ['https://app.test']}}\n{ROUTES}")).await;
    for (path, method) in [("/nothing", "GET"), ("/any", "MKCOL"), ("/own/deeper", "PUT"), ("/a%00", "GET")] {
        let answer = preflight(&gateway, path, "https://app.test", method).await;
        assert_eq!((answer.status.as_u16(), allowed(&answer).as_str()), (204, "https://app.test"), "{path}");
        assert_eq!(answer.header("access-control-max-age"), "600");
    }
    let refused = call(&gateway, "/nothing", "https://app.test").await;
    assert_eq!((refused.status.as_u16(), allowed(&refused).as_str()), (404, "https://app.test"));
    let plain = gateway.send("OPTIONS", "/own", &[("origin", "https://app.test")], "").await;
    assert_eq!(plain.header("allow"), "DELETE, GET, HEAD, OPTIONS, PUT", "no preflight");
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_may_say_otherwise() {
    for everywhere in ["cors: {origins: ['https://app.test']}\n", ""] {
        let gateway = Running::start(&format!("{everywhere}{ROUTES}")).await;
        let own = call(&gateway, "/own", "https://partner.test").await;
        assert_eq!(allowed(&own), "https://partner.test");
        assert_eq!(allowed(&call(&gateway, "/own", "https://app.test").await), "");
        assert_eq!(allowed(&call(&gateway, "/any", "https://partner.test").await), "");
        let asked = preflight(&gateway, "/own", "https://partner.test", "PUT").await;
        assert_eq!((allowed(&asked).as_str(), asked.status.as_u16()), ("https://partner.test", 204));
        assert_eq!(asked.header("access-control-allow-methods"), "GET, PUT");
        assert_eq!(asked.header("access-control-max-age"), "60");
        for origin in ["https://app.test", "https://partner.test"] {
            let asked = preflight(&gateway, "/own", origin, "DELETE").await;
            assert_eq!((allowed(&asked).as_str(), asked.header("access-control-allow-methods").as_str()), ("", ""));
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_page_can_read_that_it_asks_too_much() {
    let limit = "rate_limit: {requests: 1, per: 1h, key: client_address}\n";
    let gateway = Running::start(&format!("cors: {{origins: ['https://app.test']}}\n{limit}{ROUTES}")).await;
    call(&gateway, "/any", "https://app.test").await;
    let refused = call(&gateway, "/any", "https://app.test").await;
    assert_eq!((refused.status.as_u16(), allowed(&refused).as_str()), (429, "https://app.test"));
    let exposed = refused.header("access-control-expose-headers");
    for name in ["retry-after", "ratelimit", "ratelimit-policy", "x-request-id"] {
        assert!(!refused.header(name).is_empty() && exposed.contains(name), "{name}");
    }
    gateway.stop().await;
}

/// An upstream that says for itself who may read, and what it is.
async fn outspoken() -> std::net::SocketAddr {
    serve(|_| async {
        let mut response = Response::new(Body::from("text".repeat(1000)));
        for (name, value) in [
            ("access-control-allow-origin", "https://evil.test"),
            ("access-control-allow-credentials", "true"),
            ("content-type", "text/plain"),
            ("server", "Apache/2.2.3 (very old)"),
            ("server-timing", "db;dur=5"),
            ("turnpike-principal", "a.b.c"),
            ("vary", "accept-language"),
            ("x-powered-by", "PHP/5.1"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    })
    .await
}

#[tokio::test]
async fn an_upstreams_word_counts_only_where_the_gateway_has_none() {
    let routes = passing_on(outspoken().await);
    let gateway = Running::start(&routes).await;
    assert_eq!(allowed(&call(&gateway, "/", "https://evil.test").await), "https://evil.test");
    gateway.stop().await;
    let gateway = Running::start(&format!("cors: {{origins: ['https://app.test']}}\n{routes}")).await;
    let answer = call(&gateway, "/", "https://evil.test").await;
    assert_eq!((allowed(&answer).as_str(), answer.header("access-control-allow-credentials").as_str()), ("", ""));
    let answer = call(&gateway, "/", "https://app.test").await;
    assert_eq!(allowed(&answer), "https://app.test");
    assert_eq!(answer.header("vary"), "accept-language, accept-encoding, origin");
    gateway.stop().await;
}

#[tokio::test]
async fn what_runs_behind_is_not_told() {
    let gateway = Running::start(&passing_on(outspoken().await)).await;
    let answer = gateway.get("/").await;
    for name in ["server", "x-powered-by", "turnpike-principal"] {
        assert_eq!(answer.header(name), "", "{name}");
    }
    assert_eq!(answer.header("server-timing"), "db;dur=5", "which is for the client");
    gateway.stop().await;
}

#[tokio::test]
async fn nothing_imitates_what_only_the_gateway_says_and_nothing_can_be_read_in_two_ways() {
    let gateway = Running::start(&passing_on(echo().await)).await;
    let sent = [("turnpike-principal", "1"), ("turnpike_principal", "1"), ("x_forwarded_for", "1"), ("my_own", "1")];
    let answer = gateway.send("GET", "/", &sent, "").await;
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    for (name, _) in &sent[..3] {
        assert_eq!(told["headers"][name], serde_json::Value::Null, "{name}");
    }
    assert_eq!(told["headers"]["my_own"], "1");
    for name in ["content-type", "origin", "range", "sec-fetch-site"] {
        let twice =
            gateway.send("POST", "/", &[(name, "text/plain"), ("x", "y"), (name, "application/json")], "").await;
        assert_eq!(twice.status, 400, "{name}");
        assert!(twice.problem()["detail"].as_str().unwrap().contains(name));
    }
    let lists = [("accept", "text/html"), ("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2")];
    assert_eq!(gateway.send("GET", "/", &lists, "").await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_route_may_change_take_away_and_add_response_headers() {
    let gateway = Running::start(
        "security_headers: {x-everywhere: '1', x-frame-options: SAMEORIGIN}\nroutes:\n\
         - {match: {path: /any}, respond: {status: 200}}\n\
         - {match: {path: /own, method: GET}, authenticate: required, respond: {status: 200}, \
            security_headers: {content-security-policy: \"default-src 'none'\", x-frame-options: '', X-Everywhere: '2'}}\n",
    )
    .await;
    let any = gateway.get("/any").await;
    assert_eq!((any.header("x-everywhere"), any.header("x-frame-options")), ("1".into(), "SAMEORIGIN".into()));
    let own = gateway.get("/own").await;
    assert_eq!(own.status, 401, "errors of the route, too");
    assert_eq!((own.header("x-everywhere"), own.header("x-frame-options")), ("2".into(), String::new()));
    assert_eq!(own.header("content-security-policy"), "default-src 'none'");
    assert_eq!(own.header("x-content-type-options"), "nosniff");
    gateway.stop().await;
}
