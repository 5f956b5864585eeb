//! What a stranger says of the answer it wants: in which coding, in which dialect, for which origin.

use http::{HeaderMap, HeaderValue, Uri, header};

use super::{explore::Search, said, text};
use crate::{
    coding::{Accepted, Coding, Level, negotiate},
    dialect::Dialect,
    layers::cors,
};

const OFFERED: [(&str, Level); 3] = [
    ("br", Level { coding: Coding::Br, level: 4 }),
    ("zstd", Level { coding: Coding::Zstd, level: 3 }),
    ("gzip", Level { coding: Coding::Gzip, level: 5 }),
];

/// A field of the input's lines.
fn lines(name: &header::HeaderName, input: &[u8]) -> HeaderMap {
    let values = input.split(|byte| *byte == b'\n').take(8);
    values.filter_map(|value| Some((name.clone(), HeaderValue::from_bytes(value).ok()?))).collect()
}

#[test]
fn a_coding_is_chosen_only_if_it_was_asked_for() {
    let search = Search {
        name: "codings",
        seeds: &["gzip, deflate, br, zstd", "br;q=0.5,gzip;q=0.8;x=y", "identity;q=0, *;q=0.1", "*;q=0", "\nX-GZIP\n"],
        words: &["gzip", "br", "zstd", "identity", "*", ",", ";q=", ";", "q", "0", "0.", "1.000", "5", " ", "\n", "\t"],
        cases: 20_000,
    };
    search.run(|input| {
        let headers = lines(&header::ACCEPT_ENCODING, input);
        let asked = text(input).to_ascii_lowercase();
        let accepted = negotiate(&headers, &OFFERED.map(|(_, level)| level));
        match accepted {
            Accepted::Coded { level, plain } => {
                let name = OFFERED.iter().find(|(_, own)| *own == level).unwrap().0;
                assert!(asked.contains(name) || asked.contains('*'), "{name}");
                assert!(plain || asked.contains("identity") || asked.contains('*'));
            }
            Accepted::Nothing => assert!(asked.contains("identity") || asked.contains('*')),
            Accepted::Plain => {}
        }
        said(format!("{accepted:?}"))
    });
}

#[test]
fn a_dialect_is_one_that_was_named() {
    let search = Search {
        name: "dialects",
        seeds: &["application/grpc", "application/grpc-web-text+proto; x=y", "text/html, application/grpc-web;q=0.1"],
        words: &["application/", "grpc", "-web", "-text", "+proto", ";", ",", "/", "*", " ", "json", "GRPC"],
        cases: 20_000,
    };
    search.run(|input| {
        let mut outcomes = Vec::new();
        for name in [header::CONTENT_TYPE, header::ACCEPT] {
            let dialect = Dialect::of(&lines(&name, input));
            assert!(!dialect.is_grpc() || text(input).to_ascii_lowercase().contains("application/grpc"), "{dialect:?}");
            outcomes.push(format!("{dialect:?}"));
        }
        said(outcomes)
    });
}

#[test]
fn an_origin_is_trusted_only_if_its_host_is_ours() {
    let written = "{origins: ['https://*.app.example', 'https://one.test:8443'], credentials: true}";
    let config = cors::Config::new("cors", &serde_saphyr::from_str(written).unwrap()).unwrap();
    let search = Search {
        name: "origins",
        seeds: &[
            "https://a.app.example",
            "https://one.test:8443",
            "https://b.a.app.example",
            "null",
            "http://one.test",
        ],
        words: &[
            "https://",
            "http://",
            "app.example",
            ".app.example",
            "one.test",
            ":8443",
            ":",
            "@",
            "/",
            "#",
            "?",
            ".",
            "*",
            "a",
            "%2e",
            "\\",
            "é",
            "-",
        ],
        cases: 20_000,
    };
    search.run(|input| {
        let origin = text(input);
        let trusted = config.trusts(&origin);
        if trusted {
            let uri: Uri = origin.parse().unwrap();
            let authority = uri.authority().unwrap().as_str().to_ascii_lowercase();
            assert_eq!(uri.scheme_str(), Some("https"));
            assert!(authority.ends_with(".app.example") || authority == "one.test:8443", "{origin}");
            assert_eq!(uri.path_and_query().map_or("/", |path| path.as_str()), "/", "{origin}");
        }
        said((trusted, origin.matches('.').count().min(4)))
    });
}
