//! What holds for every template of the grammar: it is read as it is written, and takes the paths that a reader takes who
//! only compares segments.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use proptest::prelude::*;

use super::{Conditions, Match, Segment, Table, Template};

/// A template as its grammar has it.
#[derive(Clone, Debug)]
struct Written {
    parts: Vec<Part>,
    verb: Option<&'static str>,
}

#[derive(Clone, Debug)]
enum Part {
    Plain(Segment),
    /// `{v0=…}`; without its segments where they are one `*` and it is told to.
    Variable(Vec<Segment>, bool),
}

impl Written {
    fn text(&self) -> String {
        let segments = |segments: &[Segment]| segments.iter().map(segment).collect::<Vec<_>>().join("/");
        let mut parts = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            parts.push(match part {
                Part::Plain(plain) => segment(plain),
                Part::Variable(inside, true) if *inside == [Segment::Any] => format!("{{v{at}}}"),
                Part::Variable(inside, _) => format!("{{v{at}={}}}", segments(inside)),
            });
        }
        let verb = self.verb.map(|verb| format!(":{verb}")).unwrap_or_default();
        format!("/{}{verb}", parts.join("/"))
    }

    fn segments(&self) -> Vec<Segment> {
        let each = self.parts.iter().flat_map(|part| match part {
            Part::Plain(plain) => vec![plain.clone()],
            Part::Variable(inside, _) => inside.clone(),
        });
        each.collect()
    }

    /// The variables of a path, if it fits: by comparing one segment after the other.
    fn variables(&self, path: &str) -> Option<Vec<(String, String)>> {
        let path = match self.verb {
            Some(verb) => path.strip_suffix(&format!(":{verb}"))?,
            None => path,
        };
        let given: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let given = if given == [""] { Vec::new() } else { given };
        let mut rest = &given[..];
        let mut variables = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let (inside, is_variable) = match part {
                Part::Plain(plain) => (std::slice::from_ref(plain), false),
                Part::Variable(inside, _) => (&inside[..], true),
            };
            let mut taken = 0;
            for segment in inside {
                let fits = match (segment, rest.get(taken)) {
                    (Segment::Rest, _) => {
                        taken = rest.len();
                        continue;
                    }
                    (Segment::Any, Some(given)) => !given.is_empty(),
                    (Segment::Literal(literal), Some(given)) => given == literal,
                    (_, None) => false,
                };
                if !fits {
                    return None;
                }
                taken += 1;
            }
            let (own, others) = rest.split_at(taken);
            rest = others;
            if is_variable {
                let decode = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
                let is_one = inside.len() == 1 && inside[0] != Segment::Rest;
                let pieces = own.join("/");
                let value = if is_one {
                    decode(&pieces)
                } else {
                    // All but the escape of a slash, letter by letter.
                    pieces.split("%2F").map(decode).collect::<Vec<_>>().join("%2F")
                };
                variables.push((format!("v{at}"), value));
            }
        }
        rest.is_empty().then_some(variables)
    }
}

fn segment(segment: &Segment) -> String {
    match segment {
        Segment::Literal(literal) => literal.clone(),
        Segment::Any => "*".to_owned(),
        Segment::Rest => "**".to_owned(),
    }
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "books", "x.y", "a%20b", "caf%C3%A9", "~", "1"]).prop_map(str::to_owned)
}

fn one() -> impl Strategy<Value = Segment> {
    prop_oneof![Just(Segment::Any), word().prop_map(Segment::Literal)]
}

fn written() -> impl Strategy<Value = Written> {
    let variable =
        (prop::collection::vec(one(), 1..4), any::<bool>()).prop_map(|(inside, short)| Part::Variable(inside, short));
    let part = prop_oneof![one().prop_map(Part::Plain), variable];
    let last = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Part::Plain(Segment::Rest))),
        1 => prop::collection::vec(one(), 0..3).prop_map(|mut inside| {
            inside.push(Segment::Rest);
            Some(Part::Variable(inside, false))
        }),
    ];
    let verb = prop::option::of(prop::sample::select(vec!["cancel", "a", "books"]));
    (prop::collection::vec(part, 1..4), last, verb).prop_map(|(mut parts, last, verb)| {
        parts.extend(last);
        Written { parts, verb }
    })
}

/// A path that mostly fits: what a template asks for, with something else now and then.
fn path(written: &Written) -> impl Strategy<Value = String> + use<> {
    let given = || prop_oneof![4 => word(), 1 => Just("a%2Fb%3A".to_owned()), 1 => Just("a:cancel".to_owned())];
    let segments = written.segments().into_iter().map(|segment| match segment {
        Segment::Literal(literal) => {
            prop_oneof![9 => Just(vec![literal]), 1 => given().prop_map(|other| vec![other])].boxed()
        }
        Segment::Any => given().prop_map(|given| vec![given]).boxed(),
        Segment::Rest => prop::collection::vec(given(), 0..3).boxed(),
    });
    let segments: Vec<_> = segments.collect();
    let verb = written.verb;
    let end = prop_oneof![8 => Just(""), 1 => Just("/"), 1 => Just("/b")];
    (segments, end, prop::bool::weighted(0.9)).prop_map(move |(segments, end, with_verb)| {
        let verb = verb.filter(|_| with_verb).map(|verb| format!(":{verb}")).unwrap_or_default();
        format!("/{}{end}{verb}", segments.concat().join("/")).replace("//", "/")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn a_template_is_read_as_it_is_written(written in written()) {
        let text = written.text();
        let template = Template::parse(&text).map_err(|message| TestCaseError::fail(format!("{text}: {message}")))?;
        prop_assert_eq!(&template.segments, &written.segments(), "{}", text);
        prop_assert_eq!(template.verb.as_deref(), written.verb);
        let names: Vec<_> = template.variables.iter().map(|variable| variable.name.to_string()).collect();
        let parts = written.parts.iter().enumerate();
        let expected: Vec<_> = parts.filter(|(_, part)| matches!(part, Part::Variable(..))).map(|(at, _)| format!("v{at}")).collect();
        prop_assert_eq!(names, expected);
    }

    #[test]
    fn a_template_takes_the_paths_whose_segments_fit(
        (written, path) in written().prop_flat_map(|written| (Just(written.clone()), path(&written))),
    ) {
        let template = Template::parse(&written.text()).unwrap();
        let (table, _) = Table::new([(template, Conditions::default(), Arc::new(()))]);
        let parts = http::Request::get(path.as_str()).body(()).unwrap().into_parts().0;
        let found = match table.find(&path, &parts) {
            Match::Found { template, .. } => {
                let variables = template.variables(&path).unwrap();
                Some(variables.iter().map(|(name, value)| (name.to_string(), value.clone())).collect::<Vec<_>>())
            }
            _ => None,
        };
        prop_assert_eq!(found, written.variables(&path), "{} and {}", written.text(), path);
    }
}
