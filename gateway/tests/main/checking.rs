//! What a configuration can get wrong, each mistake with its place.

use std::collections::BTreeMap;

use bytes::Bytes;
use gateway::Properties;

/// What most of these configurations begin with.
const HEAD: &str = "
listeners: [{address: '127.0.0.1:0'}]
upstreams:
  catalogue: {endpoints: ['127.0.0.1:1'], protocol: grpc, descriptors: catalogue}
";

fn check(sections: &str) -> Result<Vec<String>, Vec<String>> {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut compiler =
        protox::Compiler::new([format!("{root}/tests/proto"), format!("{root}/../proto/proto")]).unwrap();
    compiler.include_imports(true).open_file("catalogue.proto").unwrap();
    let descriptors = BTreeMap::from([("catalogue".to_owned(), Bytes::from(compiler.encode_file_descriptor_set()))]);
    gateway::check(&format!("{HEAD}{sections}"), &Properties::new(), None, &descriptors)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn refused(sections: &str, expected: &[&str]) {
    let errors = check(sections).unwrap_err();
    assert_eq!(errors, expected, "{sections}");
}

#[test]
fn every_mistake_is_reported_with_its_place_and_not_only_the_first() {
    refused(
        "
timeout: 2s
limits: {uri: 1MiB, connections: 0}
cors: {origins: [nowhere]}
routes:
  - { match: { path: /a }, proxy: catalog }
  - { match: { path: 'b' }, respond: { status: 200 } }
  - { match: { path: /c, method: [get] }, respond: { status: 99 } }
  - { match: { path: /d } }
  - { upstream: catalogue }
  - match: { path: '/e/{id}' }
    aggregate: [{ part: item, call: catalogue.v1.Catalogue/GetItem, timeout: 1m, upstream: catalgoue }]
",
        &[
            "limits.connections: must be above 0",
            "limits.uri: must be at most 63KiB",
            "cors.origins[0]: `nowhere` is no origin such as https://app.example or https://*.app.example",
            "routes[0].proxy: no upstream \"catalog\"; did you mean \"catalogue\"?",
            "routes[1].match.path: a path template begins with a slash",
            "routes[2].match.method[0]: `get` is not a method such as GET",
            "routes[2].respond.status: must be within 200 to 599",
            "routes[3]: a route has exactly one of `transcode`, `aggregate`, `proxy`, `respond` and `redirect`",
            "routes[4]: a route has either `grpc` or `match`",
            "routes[5].aggregate[0].timeout: is longer than the route's, 2s",
            "routes[5].aggregate[0].upstream: no upstream \"catalgoue\"; did you mean \"catalogue\"?",
        ],
    );
}

#[test]
fn routes_that_no_request_can_tell_apart_clash() {
    refused(
        "
routes:
  - { match: { path: '/items/{id}', method: GET }, respond: { status: 200 } }
  - { match: { path: '/items/{name}', method: [POST, GET] }, respond: { status: 200 } }
",
        &["routes[1]: no request can tell it from the route `GET /items/{id}`"],
    );
}

#[test]
fn a_route_that_is_never_taken_is_refused() {
    refused(
        "
routes:
  - { match: { path: '/items/{id}', method: GET }, respond: { status: 200 } }
  - { match: { path: '/items/{id}', method: GET, host: a.test }, respond: { status: 200 } }
  - { match: { path: '/items/{id}', method: GET, priority: 1 }, name: first, respond: { status: 200 } }
",
        &["routes[0]: is never taken: the route `first` takes all of its requests"],
    );
}

#[test]
fn a_request_that_could_be_meant_for_two_routes_is_refused_until_a_priority_decides() {
    let routes = |priority: &str| {
        format!(
            "
routes:
  - {{ match: {{ path: /a, host: a.test }}, name: host, respond: {{ status: 200 }} }}
  - {{ match: {{ path: /a, method: GET{priority} }}, respond: {{ status: 200 }} }}
  - {{ match: {{ path: /a, host: '*.test' }}, name: hosts, respond: {{ status: 200 }} }}
"
        )
    };
    refused(
        &routes(""),
        &[
            "routes[1]: some requests fit this and the route `host` alike: a `priority` on one of them decides",
            "routes[2]: some requests fit this and the route `GET /a` alike: a `priority` on one of them decides",
        ],
    );
    assert_eq!(check(&routes(", priority: 1")).unwrap(), ["upstreams.catalogue: no route asks it"]);
}

#[test]
fn what_is_likely_a_slip_is_a_note() {
    let notes = check(
        "
  spare: { endpoints: ['127.0.0.1:2'] }
routes:
  - { match: { path: /a }, scopes: { all: ['items:write'] }, proxy: catalogue }
  - { match: { path: /b }, scopes: { any: ['items:write', 'items:read'] }, proxy: catalogue }
  - { match: { path: /c }, scopes: { all: ['items:wirte'] }, proxy: catalogue }
",
    );
    assert_eq!(
        notes.unwrap(),
        [
            "upstreams.spare: no route asks it",
            "routes[2].scopes: the scope \"items:wirte\" stands nowhere else; did you mean \"items:write\"?",
        ]
    );
}

#[test]
fn an_error_has_the_line_and_the_path_of_what_is_wrong() {
    let text = "\
listeners: [{ address: '127.0.0.1:0' }]
routes:
  - match: { path: /a }
    respond:
      status: 99
  - match:
      path: /b
    proxy: nowhere
";
    let check = |text: &str| gateway::check(text, &Properties::new(), None, &BTreeMap::new()).unwrap_err();
    let places: Vec<_> = check(text).into_iter().map(|error| (error.path, error.line)).collect();
    assert_eq!(places, [("routes[0].respond.status".to_owned(), Some(5)), ("routes[1].proxy".to_owned(), Some(8))]);
    let error = &check(&text.replace("respond:", "resopnd:"))[0];
    assert_eq!((error.path.as_str(), error.line), ("routes[0]", Some(4)));
    assert!(error.message.contains("did you mean \"respond\"?"), "{error}");
    let error = &check(&text.replace("99", "many"))[0];
    assert_eq!((error.path.as_str(), error.line), ("routes[0].respond.status", Some(5)));
    assert_eq!(check("listeners: [")[0].line, Some(1));
}

#[test]
fn what_can_not_be_matched_is_refused() {
    refused(
        "
routes:
  - { match: { path: /a, method: [GET, GET], host: [a.test, A.test, 'b:80', '*.*.c'] }, respond: { status: 200 } }
  - match: { path: /b, headers: { host: a.test, 'x y': '1', X-A: '1', x-a: '2' }, query: { v: { prefix: '' } } }
    respond: { status: 200 }
",
        &[
            "routes[0].match.method[1]: `GET` is there already",
            "routes[0].match.host[1]: `A.test` is there already",
            "routes[0].match.host[2]: `b:80` is not a name such as api.example or *.api.example",
            "routes[0].match.host[3]: `*.*.c` is not a name such as api.example or *.api.example",
            "routes[1].match.headers.host: a host is asked for by `match.host`",
            "routes[1].match.headers.x y: not the name of a header",
            "routes[1].match.headers.x-a: is there already",
            "routes[1].match.query.v: an empty prefix asks for nothing: say `present: true`",
        ],
    );
}

#[test]
fn an_explicit_route_hides_a_derived_one_and_says_so() {
    let notes = check(
        "
routes:
  - { grpc: catalogue.v1.Catalogue, upstream: catalogue }
  - { match: { path: '/items/{id}', method: GET }, respond: { status: 200 } }
",
    )
    .unwrap();
    assert_eq!(notes, ["routes[0].grpc (GetItem): `GET /items/{id}` is hidden by the route `GET /items/{id}`"],);
}

#[test]
fn a_service_or_method_that_is_not_there_is_found() {
    let errors = check(
        "
routes:
  - { grpc: catalogue.v1.Catalog, upstream: catalogue }
  - { grpc: catalogue.v1.Catalogue, upstream: catalogue, methods: { CreateItm: { timeout: 1s } } }
  - { match: { path: /x, method: GET }, transcode: catalogue.v1.Catalogue/FindItem, upstream: catalogue }
",
    )
    .unwrap_err();
    assert!(errors[0].starts_with("routes[2].transcode: "), "{errors:?}");
    assert!(errors[1].starts_with("routes[0].grpc: ") && errors[1].contains("did you mean"), "{errors:?}");
    assert_eq!(
        errors[2],
        "routes[1].methods.CreateItm: catalogue.v1.Catalogue has no annotated method \"CreateItm\"; \
         did you mean \"CreateItem\"?"
    );
}

#[test]
fn parts_of_an_aggregate_are_checked_with_their_places() {
    refused(
        "
  web: { endpoints: ['127.0.0.1:2'] }
routes:
  - match: { path: '/a/{id}' }
    upstream: catalogue
    aggregate:
      - { part: item, call: catalogue.v1.Catalogue/GetItem }
      - { part: web, get: '/{parts.item.nam}', upstream: web, headers: { x: '{parts.itm.name}' } }
      - { part: other, get: / }
",
        &[
            "routes[0].aggregate[2].upstream: `catalogue` speaks gRPC: it is asked by `call`",
            "routes[0].aggregate[1].get: catalogue.v1.Item has no field `nam`",
            "routes[0].aggregate[1].headers.x: there is no part `itm`; did you mean \"item\"?",
        ],
    );
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    refused(
        "
authentication: { session: { upstream: catalogue, idle: 99999999h, absolute: 99999998h } }
routes:
  - { match: { path: /a }, authenticate: none, scopes: { all: [x] }, respond: { status: 200 } }
  - { match: { path: /b }, timeout: 300ms, proxy: catalogue }
  - { match: { path: /c }, rate_limit: [{ name: a, rate: 1/s, key: route }, { name: a, rate: 2/s, key: route }], respond: { status: 200 } }
",
        &[
            "authentication.session.idle: must be above 0 and not longer than `absolute`",
            "authentication.session.absolute: must be at most 8760h",
            "routes[0].scopes: only a caller who must be known can have scopes: authenticate: required",
            "routes[1].timeout: 300ms is over before the connect timeout of \"catalogue\", 1s",
            "routes[2].rate_limit[1].name: `a` is there already",
            "routes[2].rate_limit[1].name: `a` stands for another limit elsewhere: only `cost` may differ",
        ],
    );
}

#[test]
fn nothing_may_outlive_its_revocation() {
    let text = "
authentication:
  revocation: { keep: 2h }
  session: { upstream: catalogue }
  jwt: { issuer: i, audience: a, jwks_url: 'https://id.test/' }
routes: []
";
    refused(
        text,
        &[
            "authentication.session.absolute: must not be longer than `authentication.revocation.keep`: a session would \
             outlive its revocation",
            "authentication.jwt[0].max_lifetime: must not be longer than `authentication.revocation.keep`: a token would \
             outlive its revocation",
        ],
    );
    let shorter = text
        .replace("catalogue }", "catalogue, absolute: 2h }")
        .replace("}'", "}")
        .replace("test/' }", "test/', max_lifetime: 2h }");
    assert!(check(&shorter).is_ok(), "{:?}", check(&shorter));
}

#[test]
fn what_gateways_share_is_checked() {
    refused(
        "
shared: { redis: 'http://127.0.0.1:6379', timeout: 10ms }
routes:
  - { match: { path: /a }, idempotency: {}, respond: { status: 200 } }
  - { match: { path: /b }, authenticate: required, idempotency: { keep: 0s }, respond: { status: 200 } }
",
        &[
            "shared.redis: it doesn't begin with redis://, rediss://, redis+sentinel:// or redis+cluster://",
            "shared.limit_timeout: must not be longer than `timeout`, which bounds every wait",
            "routes[0].idempotency: keys are told apart by their caller, who must be known: authenticate: required",
            "routes[1].idempotency.keep: must be within 1s to 168h",
        ],
    );
    assert!(check("shared: { redis: '', timeout: 1s }\nroutes: []\n").is_ok());
    let parts = |parts: &str| format!("shared: {{ redis: {{ {parts} }} }}\nroutes: []\n");
    assert!(check(&parts("url: 'redis+sentinel://a,b/events', user: shop, password: '1'")).is_ok());
    refused(
        &parts("url: 'redis://a', password_file: /nowhere"),
        &["shared.redis: password_file: /nowhere: No such file or directory (os error 2)"],
    );
    let unknown = check(&parts("url: 'redis://a', pass: x")).unwrap_err();
    assert!(unknown[0].contains("unknown field `pass`"), "{unknown:?}");
    let unknown = check("shared: { rediss: x }\nroutes: []\n").unwrap_err();
    assert!(unknown[0].contains("rediss"), "{unknown:?}");
}

#[test]
fn an_upstream_is_checked_too() {
    let text = "
listeners: []
upstreams:
  a: { endpoints: ['nowhere'] }
  b: { endpoints: ['127.0.0.1:1'], descriptors: missing.binpb }
  c: { endpoints: ['127.0.0.1:1'], health: { path: /ready, interval: 1s, timeout: 2s } }
  d: { endpoints: ['', 'dns://d.internal'] }
  e: { endpoints: ['dns://e.internal:7001'] }
  f: { endpoints: ['127.0.0.1:1', 'registry://f'] }
";
    let errors = gateway::check(text, &Properties::new(), None, &BTreeMap::new()).unwrap_err();
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors[0], "listeners: there must be at least one");
    assert!(errors[1].starts_with("upstreams.a.endpoints[0]: "), "{errors:?}");
    assert!(errors[2].starts_with("upstreams.b.descriptors: neither a built-in set nor a file"), "{errors:?}");
    assert_eq!(errors[3], "upstreams.c.health.timeout: must not be longer than `interval`");
    assert_eq!(
        errors[4],
        "upstreams.d.endpoints[0]: `dns://d.internal` is not host:port, dns://name:port, srv://name or registry://service"
    );
    // Without `shared.redis`.
    assert_eq!(
        errors[5],
        "upstreams.f.endpoints[1]: `registry://f` needs a Redis in which instances announce themselves: `shared.redis`"
    );
    assert_eq!(errors.len(), 6, "{errors:?}");
}

#[test]
fn shares_copies_and_edits_are_checked() {
    refused(
        "
  other: { endpoints: ['127.0.0.1:2'] }
routes:
  - { match: { path: /a }, proxy: { weights: [{ upstream: other, weight: 0 }] } }
  - { match: { path: /b }, proxy: { weights: [{ upstream: othr, weight: 1 }, { upstream: other, weight: 2000000 }] } }
  - { match: { path: /c }, proxy: { weights: [{ upstream: other, weight: 1 }, { upstream: other, weight: 1 }] } }
  - { match: { path: /d }, proxy: { upstream: other, mirror: { upstream: nobody, percent: 10 } } }
  - { match: { path: /e }, proxy: { upstream: other, mirror: { upstream: other, percent: 0 } } }
  - { match: { path: /f }, proxy: { upstream: other, rewrite: { host: 'a b' } } }
  - { match: { path: /g }, proxy: other, request_headers: { set: { turnpike-principal: me } } }
  - { match: { path: /h }, redirect: { to: /a, https: true } }
  - { grpc: catalogue.v1.Catalogue, upstream: catalogue, sticky: principal }
",
        &[
            "routes[0].proxy.weights: at least one must have a weight above 0",
            "routes[1].proxy.weights[0].upstream: no upstream \"othr\"; did you mean \"other\"?",
            "routes[1].proxy.weights[1].weight: must be at most 1000000",
            "routes[2].proxy.weights[1].upstream: `other` is there already",
            "routes[3].proxy.mirror.upstream: no upstream \"nobody\"",
            "routes[4].proxy.mirror.percent: must be above 0 and at most 100",
            "routes[5].proxy.rewrite.host: must be a name, with or without a port",
            "routes[6].request_headers.set.turnpike-principal: `turnpike-principal` is the gateway's to write",
            "routes[7].redirect: says where by either `to`, or `https`, `host` and `path`",
            "routes[8].sticky: belongs to `weights`",
        ],
    );
}

#[test]
fn a_misspelt_name_is_found_wherever_it_stands_and_however_deep() {
    let upstream = |key: &str| format!("  other:\n    endpoints: ['127.0.0.1:2']\n    {key}\n");
    for (key, expected) in [
        ("caps: { connection: 5 }", ("upstreams.other.caps: unknown field `connection`", "\"connections\"")),
        ("ejection: { failure: 5 }", ("upstreams.other.ejection: unknown field `failure`", "\"failures\"")),
        ("balance: { ringhash: principal }", ("upstreams.other.balance: unknown variant `ringhash`", "\"ring_hash\"")),
        ("balance: least_requests", ("upstreams.other.balance: unknown variant `least_requests`", "\"least_request\"")),
        ("protocol: gprc", ("upstreams.other.protocol: unknown variant `gprc`", "\"grpc\"")),
        ("retry: { on: [conect] }", ("upstreams.other.retry.on[0]: unknown variant `conect`", "\"connect\"")),
        ("hedge:\n      aftr: 1s", ("upstreams.other.hedge: unknown field `aftr`", "\"after\"")),
    ] {
        let errors = check(&upstream(key)).unwrap_err();
        let [error] = errors.as_slice() else { panic!("{key}: {errors:?}") };
        let (place, near) = expected;
        assert!(error.starts_with(place) && error.ends_with(&format!("did you mean {near}?")), "{key}: {error}");
    }
    let errors = check("openapi: { titel: x }\n").unwrap_err();
    assert!(errors[0].starts_with("openapi: unknown field `titel`"), "{errors:?}");
    assert!(check(&upstream("retry: { on: [connect, 503] }")).is_ok());
}

#[test]
fn a_rule_that_makes_no_sense_is_told_where_it_stands() {
    let errors = check(
        "routes:\n  - grpc: catalogue.v1.Catalogue\n    upstream: catalogue\n    http_rules: [{ selector: catalogue.v1.Catalogue.GetItme, get: /x }]\n",
    )
    .unwrap_err();
    let expected =
        "routes[0].http_rules: the selector `catalogue.v1.Catalogue.GetItme` names no method of catalogue.v1.Catalogue";
    assert_eq!(errors, [expected]);
}

#[test]
fn what_is_wrong_with_a_service_is_told_once_and_not_by_each_of_its_methods() {
    refused(
        "routes: [{ grpc: catalogue.v1.Catalogue, upstream: catalogue, cache: { ttl: 1s, vary: ['a b'] } }]\n",
        &["routes[0].cache.vary[0]: is not the name of a header"],
    );
}

#[test]
fn an_upstream_that_is_asked_for_its_services_is_not_unasked() {
    let upstream = "  told: {endpoints: ['127.0.0.1:2'], protocol: grpc, descriptors: reflection}\n";
    let notes = check(&format!("{upstream}routes: [{{ grpc: some.v1.Service, upstream: told }}]\n")).unwrap();
    assert!(notes.iter().any(|note| note.starts_with("routes[0]: not served before `told`")), "{notes:?}");
    assert!(!notes.iter().any(|note| note.starts_with("upstreams.told")), "{notes:?}");
}
