//! Which of a target's answers is for a request (RFC 9111, section 4.1): the one whose request said the same in the fields
//! that its `Vary` names, and in those that the route names. What only looks different is brought into one form.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::directives::words;

/// The most fields that answers may vary by. Beyond it an answer is not kept.
const MOST: usize = 16;

/// What a request said in the fields that count, in one form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected(Arc<[(HeaderName, Box<[u8]>)]>);

impl Selected {
    /// None: no other request would get the answer (`*`), or hardly any.
    pub fn new(request: &HeaderMap, answer: &HeaderMap, route: &[HeaderName]) -> Option<Self> {
        let mut names = route.to_vec();
        for value in answer.get_all(header::VARY) {
            for word in words(value) {
                let name = HeaderName::from_bytes(word).ok().filter(|_| word != b"*")?;
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        // One that says no more must not be taken by a client that can't read it.
        if answer.contains_key(header::CONTENT_ENCODING) && !names.contains(&header::ACCEPT_ENCODING) {
            names.push(header::ACCEPT_ENCODING);
        }
        if names.len() > MOST {
            return None;
        }
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        let said = names.into_iter().map(|name| {
            let value = in_one_form(&name, request);
            (name, value)
        });
        Some(Self(said.collect()))
    }

    /// Whether a request says the same.
    pub fn fits(&self, request: &HeaderMap) -> bool {
        self.0.iter().all(|(name, value)| {
            // Most often it is the same to the letter.
            let mut values = request.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => value.is_empty(),
                (Some(one), None) if one.as_bytes() == &**value => true,
                _ => *in_one_form(name, request) == **value,
            }
        })
    }

    /// What sets a request apart by these fields; no room where there are none.
    pub fn signature(&self, request: &HeaderMap) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, _) in &*self.0 {
            text.extend_from_slice(name.as_str().as_bytes());
            text.push(b':');
            text.extend_from_slice(&in_one_form(name, request));
            text.push(b'\n');
        }
        text
    }

    pub fn weight(&self) -> usize {
        self.0.iter().map(|(name, value)| name.as_str().len() + value.len() + 48).sum()
    }
}

/// Lines joined and without space around commas. Where the field's own rules have it so, in lower case, and in order where
/// order says nothing.
fn in_one_form(name: &HeaderName, request: &HeaderMap) -> Box<[u8]> {
    let values = request.get_all(name);
    let mut members: Vec<Vec<u8>> = values.iter().flat_map(words).map(<[u8]>::to_vec).collect();
    let is_preference = [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE, header::ACCEPT_CHARSET].contains(name);
    if is_preference {
        for member in &mut members {
            member.retain(|byte| *byte != b' ' && *byte != b'\t');
            member.make_ascii_lowercase();
        }
        // RFC 9110, section 12.4.2: what is preferred is said by weights.
        members.sort_unstable();
        members.dedup();
    }
    // A field that is there and empty is not the same as none.
    if members.is_empty() && request.contains_key(name) {
        return Box::from(&b","[..]);
    }
    members.join(&b","[..]).into()
}

/// Adds to the answer's `Vary` what the route says it depends on, for caches further out.
pub fn tell(answer: &mut HeaderMap, route: &[HeaderName]) {
    let told: Vec<HeaderValue> = answer.get_all(header::VARY).iter().cloned().collect();
    let names = |name: &HeaderName| {
        told.iter().flat_map(words).any(|word| word == b"*" || word.eq_ignore_ascii_case(name.as_str().as_bytes()))
    };
    for name in route.iter().filter(|name| !names(name)) {
        answer.append(header::VARY, HeaderValue::from_str(name.as_str()).unwrap_or(HeaderValue::from_static("*")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn fits(vary: &'static str, first: &[(&'static str, &'static str)], then: &[(&'static str, &'static str)]) -> bool {
        Selected::new(&fields(first), &fields(&[("vary", vary)]), &[]).unwrap().fits(&fields(then))
    }

    #[test]
    fn an_answer_is_for_requests_that_say_the_same_where_it_counts() {
        let (a, b) = (&[("foo", "1"), ("bar", "2")], &[("foo", "1"), ("bar", "3")]);
        assert!(fits("Foo", a, b) && !fits("foo, bar", a, b));
        assert!(!fits("foo", &[], &[("foo", "1")]) && !fits("foo", &[("foo", "1")], &[]) && fits("foo", &[], &[]));
        assert!(!fits("foo", &[("foo", "")], &[]) && fits("foo", &[("foo", "")], &[("foo", "")]));
    }

    #[test]
    fn what_only_looks_different_is_the_same() {
        assert!(fits("foo", &[("foo", "1"), ("foo", "2")], &[("foo", "1 ,  2")]));
        assert!(!fits("foo", &[("foo", "1, 2")], &[("foo", "2, 1")]), "what order means is not known");
        assert!(fits("accept-encoding", &[("accept-encoding", "gzip, br")], &[("accept-encoding", "BR,gzip")]));
        assert!(!fits("accept-encoding", &[("accept-encoding", "gzip")], &[("accept-encoding", "gzip;q=0")]));
        assert!(fits(
            "accept-language",
            &[("accept-language", "de; q=0.5,en")],
            &[("accept-language", "EN, de;q=0.5")]
        ));
    }

    #[test]
    fn what_is_for_nobody_else_is_not_kept() {
        assert!(Selected::new(&HeaderMap::new(), &fields(&[("vary", "foo, *")]), &[]).is_none());
        let coded = fields(&[("content-encoding", "gzip")]);
        let selected = Selected::new(&fields(&[("accept-encoding", "gzip")]), &coded, &[]).unwrap();
        assert!(!selected.fits(&HeaderMap::new()), "who takes no gzip");
    }

    #[test]
    fn what_the_route_depends_on_is_told() {
        let mut answer = fields(&[("vary", "Origin, accept-language")]);
        tell(&mut answer, &[header::ACCEPT_LANGUAGE, header::ACCEPT]);
        assert_eq!(answer.get_all(header::VARY).iter().collect::<Vec<_>>(), ["Origin, accept-language", "accept"]);
    }
}
