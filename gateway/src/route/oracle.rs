//! The table against a matcher that knows nothing of tries: it tries every route and takes the first in order.

use std::sync::Arc;

use http::{HeaderName, Method, request::Parts};
use proptest::prelude::*;

use super::{
    Conditions, Kind, Match, Segment, Table, Template, Wanted,
    condition::{Asked, Rank},
};

type Routes = Vec<(Template, Conditions)>;

/// Literals before variables, variables before the rest; a template that ends before one that goes on.
fn exactness(template: &Template) -> (bool, Vec<u8>) {
    let segment = |segment: &Segment| match segment {
        Segment::Literal(_) => 0,
        Segment::Any => 1,
        Segment::Rest => 2,
    };
    (template.verb.is_none(), template.segments.iter().map(segment).collect())
}

fn fits(template: &Template, path: &str) -> bool {
    let path = match &template.verb {
        Some(verb) => match path.strip_suffix(verb.as_str()).and_then(|path| path.strip_suffix(':')) {
            Some(path) => path,
            None => return false,
        },
        None => path,
    };
    let mut segments: Vec<&str> = path[1..].split('/').collect();
    if path == "/" {
        segments.clear();
    }
    let rest = template.segments.last() == Some(&Segment::Rest);
    let fixed = template.segments.len() - usize::from(rest);
    let enough = if rest { segments.len() >= fixed } else { segments.len() == fixed };
    enough
        && template.segments[..fixed].iter().zip(&segments).all(|(wanted, found)| match wanted {
            Segment::Literal(literal) => literal == found,
            _ => !found.is_empty(),
        })
}

fn holds(conditions: &Conditions, parts: &Parts) -> bool {
    conditions.lacking(&Asked::new(parts)).is_empty()
}

fn reference(routes: &Routes, path: &str, parts: &Parts) -> Option<usize> {
    let order = |at: usize| -> ((bool, Vec<u8>), Rank, usize) {
        let (template, conditions) = &routes[at];
        (exactness(template), conditions.rank(), at)
    };
    (0..routes.len())
        .filter(|at| fits(&routes[*at].0, path) && holds(&routes[*at].1, parts))
        .min_by_key(|at| order(*at))
}

fn template() -> impl Strategy<Value = Template> {
    let segment = prop::sample::select(vec!["a", "b", "{x}", "{y}"]);
    let end = prop::sample::select(vec!["", "", "", "/", "/{rest=**}", ":go"]);
    (prop::collection::vec(segment, 0..4), end).prop_filter_map("not a template", |(segments, end)| {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        let text = if path.is_empty() && end != "/{rest=**}" { "/".to_owned() } else { format!("{path}{end}") };
        Template::parse(&text).ok()
    })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        "[12]{1,2}".prop_map(Wanted::Exact),
        "[12]".prop_map(Wanted::Prefix),
        Just(Wanted::Present),
        Just(Wanted::Absent),
    ]
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let method = prop::option::of(prop::sample::select(vec![Method::GET, Method::HEAD, Method::POST]));
    let host = prop::option::weighted(0.4, prop::sample::select(vec!["a.test", "b.a.test", "*.test", "*.a.test"]));
    let header = prop::option::weighted(0.3, wanted());
    let parameter = prop::option::weighted(0.3, wanted());
    (method, host, header, parameter, 0..2_i32, prop::bool::weighted(0.2)).prop_map(
        |(method, host, header, parameter, priority, derived)| Conditions {
            method,
            host: host.map(str::to_owned),
            headers: header.map(|wanted| (HeaderName::from_static("x-v"), wanted)).into_iter().collect(),
            query: parameter.map(|wanted| ("v".to_owned(), wanted)).into_iter().collect(),
            priority,
            derived,
        },
    )
}

fn request() -> impl Strategy<Value = Parts> {
    let path = prop::sample::select(vec![
        "/", "/a", "/a/", "/b", "/c", "/a/b", "/a/c", "/c/b/", "/a/b/c", "/a:go", "/a/b:go", "/c/d:go", "/a/b/c/d",
    ]);
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "PUT"]);
    let host = prop::option::of(prop::sample::select(vec!["a.test", "B.a.test:80", "c.b.a.test", "test", "x.test."]));
    let headers = prop::collection::vec("[123]{1,2}", 0..3);
    let query = prop::sample::select(vec!["", "?v=1", "?v=12", "?v=3", "?v=1&v=1", "?w=1"]);
    (path, method, host, headers, query).prop_map(|(path, method, host, headers, query)| {
        let mut request = http::Request::builder().method(method).uri(format!("{path}{query}"));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        for value in headers {
            request = request.header("x-v", value);
        }
        request.body(()).unwrap().into_parts().0
    })
}

fn build(routes: &Routes) -> (Table<usize>, Vec<super::Conflict>) {
    Table::new(
        routes
            .iter()
            .enumerate()
            .map(|(at, (template, conditions))| (template.clone(), conditions.clone(), Arc::new(at))),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_table_finds_what_trying_every_route_finds(
        routes in prop::collection::vec((template(), conditions()), 0..20),
        requests in prop::collection::vec(request(), 1..20),
    ) {
        let (table, _) = build(&routes);
        for parts in requests {
            let path = parts.uri.path();
            let expected = reference(&routes, path, &parts);
            match table.find(path, &parts) {
                Match::Found { value, .. } => prop_assert_eq!(Some(**value), expected),
                Match::MethodNotAllowed(allowed) => {
                    prop_assert_eq!(None, expected);
                    prop_assert!(!allowed.contains(&parts.method), "{:?} {:?}", allowed, parts);
                }
                Match::NotFound => prop_assert_eq!(None, expected),
            }
            let first = table.candidates(path, &parts).into_iter().find(|candidate| candidate.lacking.is_empty());
            prop_assert_eq!(first.map(|candidate| **candidate.value), expected);
        }
    }

    #[test]
    fn a_route_said_to_be_shadowed_is_never_taken_and_a_decided_order_never_hangs_on_the_file(
        routes in prop::collection::vec((template(), conditions()), 0..12),
        requests in prop::collection::vec(request(), 1..30),
    ) {
        let (table, conflicts) = build(&routes);
        let (turned, _) = build(&routes.iter().rev().cloned().collect());
        let is_in_the_way = |kind, at| conflicts.iter().any(|conflict| conflict.kind == kind && conflict.route == at);
        for parts in requests {
            let path = parts.uri.path();
            let Match::Found { value, .. } = table.find(path, &parts) else { continue };
            prop_assert!(!is_in_the_way(Kind::Shadowed, **value) && !is_in_the_way(Kind::Same, **value));
            if conflicts.is_empty() {
                let Match::Found { value: other, .. } = turned.find(path, &parts) else { panic!("not found") };
                prop_assert_eq!(routes.len() - 1 - **other, **value);
            }
        }
    }
}
