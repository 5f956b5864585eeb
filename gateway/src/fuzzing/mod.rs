//! Whatever a stranger, an issuer or an operator may write, tried by the thousand: paths, templates, cookies, credentials,
//! tokens, limits, origins, configurations. An ordinary run of the tests tries a few of each, `make fuzz` as many as fit
//! into the time it is given; the codec's own targets, which a compiler instruments, are in `fuzz/`.

mod answers;
mod explore;
mod structured;

use std::{
    borrow::Cow,
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher as _},
    path::Path,
    sync::Arc,
    time::Instant,
};

use http::{HeaderMap, HeaderValue, Request, header, uri::PathAndQuery};

use crate::{
    Properties,
    auth::{presented, session},
    context::RequestContext,
    layers::authenticate::hide_cookie,
    limit::{self, Limit, Limiter, Policies},
    route::{Conditions, Match, Table, Template, normalise},
};
use explore::Search;

fn said(outcome: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    outcome.hash(&mut hasher);
    hasher.finish()
}

/// About how much there is of something.
fn about(count: usize) -> u32 {
    count.min(64).checked_ilog2().map_or(0, |log| log + 1)
}

fn text(input: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(input)
}

#[test]
fn a_path_has_one_normal_form_and_nothing_in_it_to_climb_out_by() {
    let search = Search {
        name: "paths",
        seeds: &["/", "/things/42", "/a/./b//c/..", "/%2e%2e/%61", "/caf%c3%a9/", "/a;b=c:d@e", "/a/..;/b", "//h/p"],
        words: &[
            "/", "..", "/../", "/./", "//", "%2e", "%2E%2e", "%2f", "%5c", "%00", "%25", "%252e", "%", "a", "~", ";",
        ],
        cases: 20_000,
    };
    search.run(|input| {
        let path = text(input);
        if path.contains(['?', '#']) {
            return said("they end a path: it holds none");
        }
        let normal = match normalise(&path) {
            Ok(normal) => normal,
            Err(why) => return said(why.to_string()),
        };
        assert_eq!(normalise(&normal).as_deref(), Ok(&*normal), "it is its own normal form");
        assert!(normal.starts_with('/') && !normal.contains("//"), "{normal}");
        assert!(normal.split('/').all(|segment| segment != "." && segment != ".."), "{normal}");
        assert!(!normal.contains(['\\', '#', '?']), "{normal}");
        // What is behind us decodes it once.
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(&normal).collect();
        let segments = normal.split('/').count();
        assert_eq!(decoded.split(|byte| *byte == b'/').count(), segments, "no slash hides in an escape: {normal}");
        assert!(decoded.split(|byte| *byte == b'/').all(|segment| segment != b"." && segment != b".."), "{normal}");
        assert!(!decoded.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\'), "{normal}");
        let can_be_sent = |path: &str| PathAndQuery::try_from(path).is_ok();
        assert!(can_be_sent(&normal) || !can_be_sent(&path), "what could come can be sent on: {normal}");
        said((about(segments), normal.contains('%'), matches!(normal, Cow::Owned(_)), normal.ends_with('/')))
    });
}

#[test]
fn a_template_takes_the_paths_that_are_made_of_it() {
    let search = Search {
        name: "templates",
        seeds: &[
            "/things/{id}\n/things/42",
            "/v1/{name=shelves/*/books/*}:move\n/v1/shelves/1/books/2:move",
            "/files/{rest=**}\n/files/a/b/",
            "/{a}/{b.c}\n/1/%20",
            "/*/**\n/a/b/c",
            "/jobs/{id}:cancel\n/jobs/a:b:cancel",
        ],
        words: &[
            "/",
            "{",
            "}",
            "{id}",
            "{a.b=x/*}",
            "{rest=**}",
            "*",
            "**",
            ":",
            ":verb",
            "=",
            ".",
            "%20",
            "%C3%A9",
            "\n",
            "a",
        ],
        cases: 10_000,
    };
    search.run(|input| {
        let input = text(input);
        let (written, path) = input.split_once('\n').unwrap_or((&input, "/"));
        let template = match Template::parse(written) {
            Ok(template) => template,
            Err(why) => return said(why.split('`').next().unwrap_or_default()),
        };
        assert_eq!(Template::parse(&template.text).as_ref(), Ok(&template));
        let Ok(path) = normalise(path) else { return said(0) };
        let Ok(uri) = path.parse::<http::Uri>() else { return said(1) };
        let names: Vec<_> = template.variables.iter().map(|variable| Arc::clone(&variable.name)).collect();
        let (table, conflicts) = Table::new([(template, Conditions::default(), Arc::new(()))]);
        assert!(conflicts.is_empty(), "a route alone is in nobody's way");
        let (parts, ()) = Request::builder().uri(uri).body(()).unwrap().into_parts();
        match table.find(&path, &parts) {
            Match::Found { template, .. } => match template.variables(&path) {
                Ok(variables) => {
                    let found: Vec<_> = variables.iter().map(|(name, _)| Arc::clone(name)).collect();
                    assert_eq!(found, names);
                    for (_, value) in variables.iter() {
                        assert!(value.len() <= path.len(), "{value} is no part of {path}");
                    }
                    said((2, names.len(), about(path.len())))
                }
                Err(_) => said(3),
            },
            Match::MethodNotAllowed(_) => panic!("it takes any method"),
            Match::NotFound => said((4, names.len())),
        }
    });
}

/// A header from lines of `name: value`; what can't be one is left out.
fn headers(input: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(64) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (parts.next(), parts.next())
            && let (Ok(name), Ok(value)) =
                (header::HeaderName::from_bytes(name.trim_ascii()), HeaderValue::from_bytes(value.trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    headers
}

/// The cookies of a header, as a lenient server behind us would find them.
fn cookies(headers: &HeaderMap) -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = headers.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let pairs = lines.map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let mut next = || parts.next().unwrap_or_default().trim_ascii().to_vec();
        (next(), next())
    });
    pairs.filter(|(name, value)| !name.is_empty() || !value.is_empty()).collect()
}

#[test]
fn our_cookie_is_taken_out_and_the_others_are_left() {
    let search = Search {
        name: "cookies",
        seeds: &[
            "cookie: __Host-session=abc; theme=dark",
            "cookie: a=b\ncookie: c=d; __Host-session=x",
            "Cookie: __Host-session=; b=caf\u{e9}; __Host-session = y;;",
        ],
        words: &[
            "cookie: ",
            "__Host-session",
            "__Host-session=",
            "=",
            ";",
            "; ",
            ",",
            "\n",
            "\"",
            " ",
            "\t",
            "\u{e9}",
            "a=b",
        ],
        cases: 10_000,
    };
    search.run(|input| {
        let mut headers = headers(input);
        let before = cookies(&headers);
        let is_presented = session::presented(&headers);
        let has_ours = before.iter().any(|(name, value)| name == session::COOKIE.as_bytes() && !value.is_empty());
        assert_eq!(is_presented, has_ours, "whoever is behind us finds what we find");
        hide_cookie(&mut headers);
        assert!(!session::presented(&headers));
        let others: Vec<_> = before.into_iter().filter(|(name, _)| name != session::COOKIE.as_bytes()).collect();
        assert_eq!(cookies(&headers), others);
        said((is_presented, about(others.len()), headers.get_all(header::COOKIE).iter().count()))
    });
}

#[test]
fn a_request_has_one_credential_or_none() {
    let search = Search {
        name: "credentials",
        seeds: &[
            "authorization: Bearer tk_a_b",
            "authorization: bearer a.b.c",
            "x-api-key: tk_a_b\nauthorization: Basic YTpi",
        ],
        words: &[
            "authorization: ",
            "x-api-key: ",
            "Bearer ",
            "bearer",
            "tk_",
            "Basic ",
            " ",
            ",",
            "\n",
            "\u{e9}",
            "a.b.c",
        ],
        cases: 10_000,
    };
    search.run(|input| {
        let headers = headers(input);
        let fields = headers.get_all(header::AUTHORIZATION).iter().count();
        let keys = headers.get_all("x-api-key").iter().count();
        let presented = presented(&headers);
        if fields > 1 || keys > 1 {
            assert!(presented.is_err());
        }
        said((format!("{presented:?}").split('(').next().map(str::to_owned), fields.min(2), keys.min(2)))
    });
}

#[test]
fn a_token_that_nobody_signed_is_never_believed() {
    let search = Search {
        name: "tokens",
        seeds: &[
            // {"alg":"EdDSA","kid":"a"} {"iss":"i","aud":"a","sub":"s","exp":1900000000}
            "eyJhbGciOiJFZERTQSIsImtpZCI6ImEifQ.eyJpc3MiOiJpIiwiYXVkIjoiYSIsInN1YiI6InMiLCJleHAiOjE5MDAwMDAwMDB9.AAAA",
            // {"alg":"none"}
            "eyJhbGciOiJub25lIn0.eyJpc3MiOiJpIiwiYXVkIjoiYSIsInN1YiI6InMiLCJleHAiOjE5MDAwMDAwMDB9.",
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
            r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","use":"sig","alg":"RS256"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#,
        ],
        words: &[
            ".",
            "eyJ",
            "\"kty\":",
            "\"oct\"",
            "\"alg\":",
            "\"none\"",
            "\"HS256\"",
            "\"kid\":",
            "null",
            "[",
            "{",
            "AQAB",
        ],
        cases: 5_000,
    };
    search.run(|input| {
        crate::fuzz_token(input);
        said((about(input.split(|byte| *byte == b'.').count()), about(input.len())))
    });
}

#[test]
fn what_a_limit_tells_is_a_structured_field() {
    let search = Search {
        name: "limits",
        seeds: &[
            "{requests: 100, per: 1m, key: everyone}",
            "{rate: 10/s, burst: 20, key: everyone, name: log-in, cost: 3}",
            "{requests: 1, per: 1ms, key: [everyone, route], mode: shadow}",
            "{name: \"a b\", requests: 4294967295, per: 365d, key: client_address/56}",
        ],
        words: &[
            "name: ",
            "requests: ",
            "per: ",
            "rate: ",
            "burst: ",
            "key: ",
            ", ",
            "\"",
            "\\",
            "1",
            "0",
            "4294967295",
            "ms",
            "d",
            "h",
            "everyone",
        ],
        cases: 5_000,
    };
    search.run(|input| {
        let Ok(config) = serde_saphyr::from_str::<limit::Config>(&text(input)) else { return said(0) };
        let name = config.name.clone().unwrap_or_else(|| config.key.to_string().replace(':', "-"));
        let limit = |name: &str| Limit { limiter: Arc::new(Limiter::new("here", name, &config)), cost: config.cost };
        let policies = Policies::new([limit(&name), limit("another")], None);
        let context = RequestContext::new("1".into(), telemetry::TraceContext::unsampled(), ([127, 0, 0, 1], 1).into());
        let mut outcome = 1;
        for _ in 0..3 {
            let verdict = policies.check(&HeaderMap::new(), &context, Instant::now());
            let (_, wait) = verdict.retry_after();
            let is_refused = verdict.refused.is_some();
            let Some(fields) = verdict.fields() else { continue };
            for (name, value) in &fields {
                let members = structured::members(value.as_bytes());
                assert!(members.is_some_and(|members| members >= 1), "{name}: {value:?}");
            }
            assert!(wait.to_str().unwrap().parse::<u64>().unwrap() >= 1);
            outcome = 2 + u32::from(is_refused);
        }
        said((outcome, about(name.len()), matches!(config.quota, limit::Quota::Rate { .. })))
    });
}

/// Every section once, each with what it can have.
const CONFIGURATION: &str = include_str!("configuration.yaml");

#[test]
fn a_configuration_is_good_or_says_what_is_wrong() {
    let search = Search {
        name: "configurations",
        seeds: &[
            CONFIGURATION,
            "listeners: [{address: '127.0.0.1:0'}]\nroutes: [{match: {path: /}, respond: {status: 204}}]\n",
            "listeners: [{address: ${A:-x}}]\nupstreams: {a: {endpoints: [\"a:1\"]}}\nroutes: [{match: {path: /{x}}, proxy: a}]\n",
        ],
        words: &[
            "\n",
            "\n  - ",
            "  ",
            ": ",
            "{",
            "}",
            "[",
            "]",
            ", ",
            "&a ",
            "*a",
            "<<: ",
            "!!str ",
            "|\n",
            "${A:-",
            "~",
            "\"",
            "'",
            "routes:",
            "match:",
            "path:",
            "proxy:",
            "respond:",
            "redirect:",
            "rewrite:",
            "rate_limit:",
            "timeout:",
            "0s",
            "1ms",
            "10GiB",
            "-1",
            "99999999999999999999",
            "1e309",
            "0.0.0.0/0",
            "::/0",
            "{rest=**}",
            "headers:",
            "query:",
            "host:",
            "weights:",
            "priority:",
            "authorise:",
            "all:",
            "any:",
            "cors:",
            "tls:",
            "limits:",
            "grpc:",
            "aggregate:",
        ],
        cases: 1_500,
    };
    assert_eq!(crate::check(CONFIGURATION, &Properties::new(), None, &BTreeMap::new()), Ok(Vec::new()));
    search.run(|input| {
        let checked = crate::check(&text(input), &Properties::new(), Some(Path::new("/nowhere")), &BTreeMap::new());
        match checked {
            Ok(notes) => said((about(notes.len()), about(input.len()))),
            Err(errors) => {
                assert!(!errors.is_empty() && errors.iter().all(|error| !error.message.is_empty()));
                said(errors.iter().map(|error| digitless(&error.path)).collect::<Vec<_>>())
            }
        }
    });
}

fn digitless(path: &str) -> String {
    path.chars().filter(|character| !character.is_ascii_digit()).collect()
}
