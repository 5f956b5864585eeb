//! What the gateway says it would do is what it does.

use std::collections::BTreeMap;

use gateway::{
    Properties,
    explain::{Explanation, Probe},
};

use crate::running::{LISTENER, Running};

const ROUTES: &str = "
upstreams:
  v1: { endpoints: ['127.0.0.1:1'] }
  v2: { endpoints: ['127.0.0.1:2'] }
rate_limit: { rate: 100/s, burst: 100, key: client_address }
routes:
  - { match: { path: '/things/{id}', method: GET }, name: one, respond: { status: 200, body: one } }
  - { match: { path: '/things/{id}', method: GET, host: a.test }, name: host, respond: { status: 200, body: host } }
  - { match: { path: '/things/{id}', method: PUT }, name: put, respond: { status: 200, body: put } }
  - match: { path: '/things/{id}', method: GET, headers: { x-beta: '' }, priority: 1 }
    name: beta
    respond: { status: 200, body: beta }
  - match: { path: '/{rest=**}', method: GET, query: { v: { prefix: '2.' } } }
    name: rest
    scopes: { all: [read] }
    timeout: 3s
    rate_limit: { requests: 10, per: 1m, key: 'header:x-tenant' }
    proxy: { weights: [{ upstream: v1, weight: 3 }, { upstream: v2, weight: 1 }], mirror: { upstream: v2, percent: 5 } }
";

fn explain(method: &str, target: &str, headers: &[(&str, &str)]) -> Explanation {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let probe = Probe::new(method, target, &headers, None).unwrap();
    let text = format!("{LISTENER}{ROUTES}");
    gateway::explain(&text, &Properties::new(), None, &BTreeMap::new(), &probe).unwrap()
}

fn others(explanation: &Explanation) -> Vec<(&str, &str)> {
    explanation.others.iter().map(|other| (other.id.as_str(), other.why.as_str())).collect()
}

#[test]
fn the_route_that_is_taken_and_why_the_others_are_not() {
    let explanation = explain("GET", "//things/./4%322", &[("host", "A.test:80"), ("x-beta", "1")]);
    let route = explanation.route.as_ref().unwrap();
    assert_eq!((route.id.as_str(), explanation.path.as_str()), ("beta", "/things/422"));
    assert_eq!(route.variables["id"], "422");
    assert_eq!(
        others(&explanation),
        [
            ("host", "a route with a greater priority goes first"),
            ("one", "a route with more conditions goes first"),
            ("put", "the method is GET, not PUT"),
            ("rest", "the query parameter v is not `2.…`"),
        ]
    );
    let plain = explain("GET", "/things/1?v=2.1", &[]);
    assert_eq!(plain.route.as_ref().unwrap().id, "one");
    assert_eq!(others(&plain)[0], ("beta", "the header x-beta is not there"));
    assert_eq!(others(&plain)[1], ("host", "the host is not named, not a.test"));
    assert_eq!(others(&plain)[3], ("rest", "a more exact template goes first"));
}

#[test]
fn the_policies_with_their_values_and_whom_it_would_reach() {
    let explanation = explain("GET", "/x?v=2.0", &[("x-tenant", "acme")]);
    let route = explanation.route.as_ref().unwrap();
    let says = |policy: &str| -> Vec<&str> {
        let named = route.policies.iter().filter(|own| own.policy == policy);
        named.map(|own| own.says.as_str()).collect()
    };
    assert_eq!(says("timeout"), ["3s"]);
    assert_eq!(says("scopes"), ["all of read"]);
    assert!(says("authenticate")[0].starts_with("required"), "{route:?}");
    assert!(says("rate_limit")[0].contains("client_address (127.0.0.1)"), "{route:?}");
    assert!(says("rate_limit")[1].contains("header:x-tenant (acme)"), "{route:?}");
    let asked: Vec<_> =
        route.upstreams.iter().map(|asked| (asked.upstream.as_str(), asked.share, asked.mirrors)).collect();
    assert_eq!(asked, [("v1", 0.75, false), ("v2", 0.25, false), ("v2", 0.05, true)]);
    assert_eq!(route.upstreams[0].endpoints[0].address, "127.0.0.1:1");
    let text = explanation.to_string();
    for line in ["route rest /{rest=**} (proxy)", "upstream v1 gets 75 %", "mirror v2 gets copies of 5 %"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn the_parts_of_an_aggregate_in_the_order_in_which_they_are_asked() {
    let descriptors = crate::library::descriptors_file();
    let text = format!(
        "{LISTENER}
upstreams:
  v1: {{ endpoints: ['127.0.0.1:1'] }}
  library: {{ endpoints: ['127.0.0.1:2'], protocol: grpc, descriptors: '{}' }}
routes:
  - match: {{ path: '/books/{{id}}' }}
    upstream: library
    aggregate:
      - {{ part: web, get: '/books/{{parts.book.title}}', upstream: v1, timeout: 300ms, fallback: [] }}
      - {{ part: book, call: library.v1.Library/GetBook, required: true }}
      - part: tags
        for_each: '{{parts.book.tags}}'
        get: '/tags/{{item}}'
        upstream: v1
",
        descriptors.display(),
    );
    let probe = Probe::new("GET", "/books/1", &[], None).unwrap();
    let explanation = gateway::explain(&text, &Properties::new(), None, &BTreeMap::new(), &probe).unwrap().to_string();
    for line in [
        "part book asks library for library.v1.Library/GetBook: required, 2s",
        "part web asks v1 for GET /books/{parts.book.title}, after book: with a fallback, 300ms",
        "part tags asks v1 for GET /tags/{item}, after book: optional, 2s, for each of at most 100 elements, 8 at once",
    ] {
        assert!(explanation.contains(line), "{explanation}");
    }
    assert!(explanation.find("part book") < explanation.find("part web"), "{explanation}");
}

#[test]
fn what_no_route_takes_is_explained_too() {
    let refused = |method, target| {
        let refused = explain(method, target, &[]).refused.unwrap();
        (refused.status, refused.allow.join(", "))
    };
    assert_eq!(refused("GET", "/nothing"), (404, String::new()));
    assert_eq!(refused("DELETE", "/things/1"), (405, "GET, HEAD, OPTIONS, PUT".to_owned()));
    assert_eq!(refused("OPTIONS", "/things/1"), (204, "GET, HEAD, OPTIONS, PUT".to_owned()));
    assert_eq!(refused("GET", "/a%2fb"), (400, String::new()));
    assert!(Probe::new("GET", "/a", &[("x y".to_owned(), "1".to_owned())], None).is_err());
}

#[tokio::test]
async fn a_running_gateway_explains_and_does_the_same() {
    let gateway = Running::start(ROUTES).await;
    for (method, path, headers) in [
        ("GET", "/things/1", vec![]),
        ("HEAD", "/things/1", vec![]),
        ("PUT", "/things/1", vec![]),
        ("GET", "/things/1", vec![("x-beta", "")]),
        ("DELETE", "/things/1", vec![]),
        ("GET", "/else", vec![]),
    ] {
        let fields: String = headers.iter().map(|(name, value)| format!("&header={name}:{value}")).collect();
        let said = gateway.ops(&format!("/explain?method={method}&path={path}&host=gateway.test{fields}")).await;
        let answer = gateway.send(method, path, &headers, "").await;
        match said["route"]["id"].as_str() {
            Some(id) if method != "HEAD" => assert_eq!(answer.body, id, "{said}"),
            Some(_) => assert_eq!(answer.status, 200),
            None => assert_eq!(said["refused"]["status"], answer.status.as_u16(), "{said}"),
        }
    }
    gateway.stop().await;
}
